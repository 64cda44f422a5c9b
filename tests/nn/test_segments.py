from __future__ import annotations

import pytest
import torch
from torch import Tensor

from disentangle_lightning.nn.segments import (
    Segments,
    pad_packed,
    segment_mean,
    segment_softmax,
    segment_sum,
)


@pytest.fixture
def segments() -> Segments:
    return Segments.from_lengths(torch.tensor([2, 0, 3, 1]), total=6, max_length=3)


def test_every_frame_knows_its_utterance_and_its_place_in_it(segments: Segments) -> None:
    assert segments.index.tolist() == [0, 0, 2, 2, 2, 3]
    assert segments.position.tolist() == [0, 1, 0, 1, 2, 0]
    assert len(segments) == 4


def test_lengths_of_any_integer_type_become_int64() -> None:
    segments = Segments.from_lengths(torch.tensor([1, 2], dtype=torch.int32), total=3, max_length=2)
    assert {t.dtype for t in (segments.lengths, segments.index, segments.position)} == {torch.int64}


def test_moving_segments_moves_all_three_tensors(segments: Segments) -> None:
    moved = segments.to("meta")
    assert {t.device.type for t in (moved.lengths, moved.index, moved.position)} == {"meta"}
    assert moved.max_length == segments.max_length


def test_building_segments_never_reads_a_value_back_from_the_device() -> None:
    # A meta tensor has no values: whatever needs one on the host fails.
    segments = Segments.from_lengths(torch.empty(4, dtype=torch.int64, device="meta"), total=6, max_length=3)
    assert segments.position.shape == (6,)


def test_sum_and_mean_are_those_of_each_utterance_alone(segments: Segments) -> None:
    x = torch.randn(6, 5)
    alone = x.split(segments.lengths.tolist())
    torch.testing.assert_close(segment_sum(x, segments), torch.stack([u.sum(0) for u in alone]))
    expected = torch.stack([u.mean(0) if len(u) else torch.zeros(5) for u in alone])
    torch.testing.assert_close(segment_mean(x, segments), expected)
    torch.testing.assert_close(segment_mean(x[:, 0], segments), expected[:, 0])


def test_softmax_and_its_gradient_are_those_of_each_utterance_alone(segments: Segments) -> None:
    scores = torch.randn(6, requires_grad=True)
    weight = torch.randn(6)
    together = segment_softmax(scores, segments)
    alone = torch.cat([s.softmax(0) for s in scores.split(segments.lengths.tolist())])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(gradient(together @ weight, scores), gradient(alone @ weight, scores))


def test_softmax_of_several_columns_is_that_of_each_column(segments: Segments) -> None:
    scores = torch.randn(6, 3)
    columns = [segment_softmax(column, segments) for column in scores.unbind(1)]
    torch.testing.assert_close(segment_softmax(scores, segments), torch.stack(columns, dim=1))


def test_softmax_survives_scores_whose_exponential_overflows_or_vanishes() -> None:
    # The second lies 2000 below the first: a shift by the batch's maximum would leave it a sum of zero.
    segments = Segments.from_lengths(torch.tensor([2, 2]), total=4, max_length=2)
    weights = segment_softmax(torch.tensor([1000.0, 1000.0, -1000.0, -1000.0]), segments)
    assert weights.tolist() == [0.5] * 4


def test_softmax_of_half_precision_scores_sums_to_one_in_float32() -> None:
    segments = Segments.from_lengths(torch.tensor([3000]), total=3000, max_length=3000)
    weights = segment_softmax(torch.randn(3000, dtype=torch.bfloat16), segments)
    assert weights.dtype == torch.float32
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))


def test_padding_puts_frames_in_place_and_the_value_after_them(segments: Segments) -> None:
    x = torch.arange(1.0, 13.0).reshape(6, 2)
    padded = pad_packed(x, segments, -1.0)
    assert padded[:, :, 0].tolist() == [[1, 3, -1], [-1, -1, -1], [5, 7, 9], [11, -1, -1]]


def test_padding_hands_each_frame_its_own_gradient(segments: Segments) -> None:
    x = torch.randn(6, 2, requires_grad=True)
    weight = torch.randn(4, 3, 2)
    packed = torch.cat([weight[b, :length] for b, length in enumerate(segments.lengths.tolist())])
    torch.testing.assert_close(gradient((pad_packed(x, segments, 7.0) * weight).sum(), x), packed)


def gradient(loss: Tensor, of: Tensor) -> Tensor:
    return torch.autograd.grad(loss, of, retain_graph=True)[0]

from __future__ import annotations

import pytest
import torch

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.pooling import AttentionPooling
from disentangle_lightning.nn.segments import Segments, pad_packed, segment_mean, segment_sum


@pytest.fixture
def segments() -> Segments:
    return Segments.from_lengths(torch.tensor([4, 1, 6]), total=11, max_length=6)


def test_packed_pooling_equals_padded_and_masked_attention(segments: Segments) -> None:
    torch.manual_seed(0)
    pooling = AttentionPooling(5)
    with torch.no_grad():
        pooling.query.normal_(std=2.0)
    x = torch.randn(11, 5, requires_grad=True)
    pooled, weights = pooling(x, segments)

    padded = pad_packed(x, segments, 0.0)
    real = torch.arange(6) < segments.lengths[:, None]
    scores = (padded @ pooling.query / 5**0.5).masked_fill(~real, -torch.inf)
    padded_weights = scores.softmax(1)
    padded_pooled = torch.einsum("bt,btd->bd", padded_weights, padded)

    torch.testing.assert_close(pooled, padded_pooled)
    torch.testing.assert_close(weights, padded_weights[real])
    aim = torch.randn(3, 5)
    packed_gradients = torch.autograd.grad((pooled * aim).sum(), [x, pooling.query])
    padded_gradients = torch.autograd.grad((padded_pooled * aim).sum(), [x, pooling.query])
    torch.testing.assert_close(packed_gradients, padded_gradients)


def test_a_query_of_zeros_starts_as_mean_pooling(segments: Segments) -> None:
    x = torch.randn(11, 5)
    pooled, weights = AttentionPooling(5)(x, segments)
    torch.testing.assert_close(pooled, segment_mean(x, segments))
    torch.testing.assert_close(weights, 1 / segments.lengths[segments.index])


def test_the_default_start_looks_at_every_frame_and_the_papers_at_about_one() -> None:
    torch.manual_seed(0)
    segments = Segments.from_lengths(torch.full((8,), 300), total=2400, max_length=300)
    x = torch.randn(2400, 1024)

    def mean_perplexity(pooling: AttentionPooling) -> float:
        _, weights = pooling(x, segments)
        return segment_sum(torch.special.entr(weights), segments).exp().mean().item()

    assert mean_perplexity(AttentionPooling(1024)) == pytest.approx(300, rel=1e-4)
    assert 1 <= mean_perplexity(AttentionPooling(1024, init="ones", scaled=False)) < 2
    assert mean_perplexity(AttentionPooling(1024, init="ones", scaled=True)) > 100


def test_half_precision_latents_are_pooled_in_float32(segments: Segments) -> None:
    pooling = AttentionPooling(5, init="ones")
    x = torch.randn(11, 5).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled, weights = pooling(x, segments)
    expected, expected_weights = pooling(x.float(), segments)
    assert torch.equal(pooled, expected)
    assert torch.equal(weights, expected_weights)


def test_unknown_query_init_is_refused() -> None:
    with pytest.raises(UserError, match="expected one of zeros, ones"):
        AttentionPooling(5, init="random")  # type: ignore[arg-type]

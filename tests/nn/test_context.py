from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.context import FrameContext
from disentangle_lightning.nn.segments import Segments

LENGTHS = [5, 1, 0, 7, 2]


def packed(lengths: list[int]) -> Segments:
    return Segments.from_lengths(torch.tensor(lengths), sum(lengths), max(lengths))


@pytest.fixture
def context() -> FrameContext:
    module = FrameContext(dim=3, reach=2)
    torch.nn.init.normal_(module.weight)
    return module


def test_it_is_the_depthwise_convolution_of_each_utterance_by_itself(context: FrameContext) -> None:
    x = torch.randn(sum(LENGTHS), 3)
    kernel = context.weight.T[:, None]
    alone = [F.conv1d(part.T[None], kernel, padding=2, groups=3)[0].T for part in torch.split(x, LENGTHS) if len(part)]
    torch.testing.assert_close(context(x, packed(LENGTHS)), torch.cat(alone))


def test_nothing_of_an_utterance_reaches_another(context: FrameContext) -> None:
    x = torch.randn(sum(LENGTHS), 3)
    other = x.clone()
    other[:5] = 1e6
    other[13:] = -1e6
    before, after = context(x, packed(LENGTHS)), context(other, packed(LENGTHS))
    assert torch.equal(before[5:13], after[5:13])
    assert not torch.equal(before[:5], after[:5])


def test_it_starts_as_the_identity() -> None:
    x = torch.randn(sum(LENGTHS), 3)
    assert torch.equal(FrameContext(3, reach=1)(x, packed(LENGTHS)), x)


def test_gradients_agree_with_finite_differences(context: FrameContext) -> None:
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: context.double()(x, packed([2, 4])), [x])


def test_a_reach_of_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="context 0 is out of range"):
        FrameContext(3, reach=0)

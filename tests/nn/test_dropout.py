from __future__ import annotations

import pytest
import torch

from disentangle_lightning.nn.dropout import Dropout


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_every_element_is_dropped_by_itself_with_that_probability(share: float) -> None:
    torch.manual_seed(0)
    dropped = (Dropout(share)(torch.ones(4000, 101)) == 0).double()
    # 404 000 elements: the standard error of the share is below 0.0008, that of each correlation about 0.0016.
    assert dropped.mean().item() == pytest.approx(share, abs=0.003)
    flat = dropped.flatten() - dropped.mean()
    for distance in (1, 2, 3, 4, 101):
        correlation = (flat[distance:] * flat[:-distance]).mean() / flat.square().mean()
        assert abs(correlation.item()) < 0.008


def test_what_is_kept_is_scaled_so_that_the_mean_stays_and_so_is_its_gradient() -> None:
    x = torch.randn(50, 7, requires_grad=True)
    y = Dropout(0.25)(x)
    y.sum().backward()
    kept = y != 0
    assert kept.any()
    assert not kept.all()
    torch.testing.assert_close(y, torch.where(kept, x / 0.75, 0.0))
    torch.testing.assert_close(x.grad, torch.where(kept, 1 / 0.75, 0.0))


def test_the_choice_follows_the_seed_and_changes_from_call_to_call() -> None:
    dropout, x = Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first, second = dropout(x), dropout(x)
    torch.manual_seed(3)
    assert torch.equal(dropout(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_dtype_and_the_shape_stay(dtype: torch.dtype) -> None:
    y = Dropout(0.5)(torch.ones(3, 1, 5, dtype=dtype))
    assert (y.dtype, y.shape) == (dtype, (3, 1, 5))
    assert Dropout(0.5)(torch.ones(0, 5)).shape == (0, 5)


def test_nothing_is_dropped_in_evaluation_or_at_a_share_of_zero_and_all_at_one() -> None:
    x = torch.randn(20, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(Dropout(1.0)(x), torch.zeros_like(x))

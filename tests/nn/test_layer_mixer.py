from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from disentangle_lightning.errors import UserError
from disentangle_lightning.nn.layer_mixer import LayerMixer

LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "frame-major": lambda x: x.contiguous(),
    "layer-major": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "dim-major": lambda x: x.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    "sliced": lambda x: x.repeat_interleave(2, 0).repeat_interleave(2, 1).repeat_interleave(2, 2)[::2, ::2, ::2],
    "empty": lambda x: x[:0],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_mixing_is_the_weighted_sum_over_layers_in_float32(dtype: torch.dtype, layout: str) -> None:
    mixer = LayerMixer(3)
    with torch.no_grad():
        mixer.theta.copy_(torch.tensor([0.5, -1.0, 2.0]))
    features = LAYOUTS[layout](torch.randn(7, 3, 4).to(dtype))
    mixed = mixer(features)
    expected = sum(w * features[:, i].double() for i, w in enumerate(mixer.weights.tolist()))
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed.double(), expected, rtol=1e-5, atol=1e-6)


def test_mixing_keeps_float32_under_autocast() -> None:
    mixer, features = LayerMixer(3), torch.randn(7, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = mixer(features)
    torch.testing.assert_close(mixed, features.mean(1))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_of_theta_is_that_of_the_written_out_softmax(layout: str) -> None:
    features = LAYOUTS[layout](torch.randn(7, 3, 4).half())
    weight = torch.randn(len(features), 4)
    mixer = LayerMixer(3)
    (mixer(features) * weight).sum().backward()
    theta = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    written_out = torch.einsum("nld,l->nd", features.double(), theta.exp() / theta.exp().sum())
    (written_out * weight).sum().backward()
    assert theta.grad is not None
    torch.testing.assert_close(mixer.theta.grad, theta.grad.float(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("mode", "layer"), [("learned", None), ("random_start", None), ("uniform", None), ("random", None), ("single", 1)]
)
def test_every_mode_gives_the_same_in_every_layout(mode: Any, layer: int | None) -> None:
    mixer, features = LayerMixer(3, mode, layer), torch.randn(7, 3, 4).half()
    expected = torch.einsum("nld,l->nd", features.double(), mixer.weights.double()).float()
    for name, arranged in LAYOUTS.items():
        torch.testing.assert_close(mixer(arranged(features)), expected[: 0 if name == "empty" else None], msg=name)


def test_learned_weights_start_uniform_and_are_the_only_ones_that_train() -> None:
    torch.testing.assert_close(LayerMixer(4).weights, torch.full((4,), 0.25))
    trained = {"learned": 1, "uniform": 0, "random": 0}
    assert {mode: len(list(LayerMixer(4, mode).parameters())) for mode in trained} == trained  # type: ignore[arg-type]
    assert not list(LayerMixer(4, "single", layer=2).parameters())


def test_random_weights_are_drawn_from_the_seed_and_travel_with_the_state() -> None:
    torch.manual_seed(0)
    first = LayerMixer(6, "random")
    second = LayerMixer(6, "random")
    assert not torch.allclose(first.weights, second.weights)
    torch.testing.assert_close(first.weights.sum(), torch.tensor(1.0))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.weights, second.weights)


def test_single_hands_on_exactly_the_named_layer() -> None:
    mixer, features = LayerMixer(3, "single", layer=2), torch.randn(7, 3, 4).half()
    assert mixer.weights.tolist() == [0.0, 0.0, 1.0]
    assert torch.equal(mixer(features), features[:, 2].float())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "single"}, "needs a layer"),
        ({"mode": "uniform", "layer": 1}, "take none"),
        ({"mode": "single", "layer": 3}, "count from 0 to 2"),
        ({"mode": "single", "layer": -1}, "count from 0 to 2"),
        ({"mode": "mean"}, "unknown"),
    ],
)
def test_impossible_choices_are_refused_in_words(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        LayerMixer(3, **arguments)


@pytest.mark.parametrize("mixer", [LayerMixer(3), LayerMixer(3, "single", layer=2)])
def test_features_with_other_layers_are_refused(mixer: LayerMixer) -> None:
    with pytest.raises(UserError, match="hold 5 layers, but the mixer was made for 3"):
        mixer(torch.randn(7, 5, 4))


def test_a_random_start_is_another_for_each_seed_and_is_trained() -> None:
    starts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        starts.append(LayerMixer(5, "random_start").theta)
    assert isinstance(starts[0], torch.nn.Parameter)
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])
    assert float(starts[0].std()) > 0.1

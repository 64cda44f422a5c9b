from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from disentangle_lightning.nn.layer_mixer import LayerMixer
from disentangle_lightning.nn.layer_pooling import _pool_at_once, _pool_by_utterance, pool_layers
from disentangle_lightning.nn.pooling import AttentionPooling
from disentangle_lightning.nn.segments import Segments

LENGTHS = [4, 1, 0, 6]


def segments_of(lengths: list[int]) -> Segments:
    return Segments.from_lengths(torch.tensor(lengths), sum(lengths), max(lengths))


def readers(count: int, layers: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(count, layers, generator=generator).softmax(1).requires_grad_()
    return weights, torch.randn(count, dim, generator=generator).requires_grad_()


@pytest.mark.parametrize("count", [1, 8, 11])
@pytest.mark.parametrize("arrange", [torch.Tensor.contiguous, lambda x: x.transpose(0, 1).contiguous().transpose(0, 1)])
def test_every_reader_pools_as_its_own_mixer_and_attention_would(
    count: int, arrange: Callable[[Tensor], Tensor]
) -> None:
    torch.manual_seed(0)
    features, segments, aim = arrange(torch.randn(11, 3, 5).half()), segments_of(LENGTHS), torch.randn(4, count, 5)
    mixers = [LayerMixer(3) for _ in range(count)]
    pools = [AttentionPooling(5) for _ in range(count)]
    parameters = [p for pair in zip(mixers, pools, strict=True) for module in pair for p in module.parameters()]
    for parameter in parameters:
        torch.nn.init.normal_(parameter)

    apart = torch.stack([p(m(features), segments)[0] for m, p in zip(mixers, pools, strict=True)], dim=1)
    weights = torch.stack([mixer.weights for mixer in mixers])
    queries = torch.stack([pool.query * pool.scale for pool in pools])
    together, mixed = pool_layers(features, weights, queries, segments)
    assert mixed is None

    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(
        torch.autograd.grad((together * aim).sum(), parameters), torch.autograd.grad((apart * aim).sum(), parameters)
    )


def test_the_gradients_are_those_of_finite_differences() -> None:
    weights, queries = readers(8, layers=2, dim=3)
    features, segments = torch.randn(2, 11, 3, dtype=torch.float64), segments_of(LENGTHS)
    assert torch.autograd.gradcheck(
        lambda w, q, m: _pool_by_utterance(features, w, q, segments, m),
        [x.double().detach().requires_grad_() for x in (weights, queries, torch.randn(2))],
    )


def test_utterance_by_utterance_is_the_same_as_all_at_once() -> None:
    weights, queries = readers(8, layers=3, dim=5)
    features, segments, mixing = torch.randn(3, 11, 5), segments_of(LENGTHS), torch.randn(3, requires_grad=True)
    aim, aim_of_frames = torch.randn(4, 8, 5), torch.randn(11, 5)
    results = []
    for pool in (_pool_at_once, _pool_by_utterance):
        pooled, mixed = pool(features, weights, queries, segments, mixing)
        assert mixed is not None
        loss = (pooled * aim).sum() + (mixed * aim_of_frames).sum()
        results.append((pooled, mixed, *torch.autograd.grad(loss, [weights, queries, mixing])))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("count", [0, 1, 11])
def test_a_reader_of_frames_mixes_as_a_layer_mixer_would_with_the_same_bits_beside_any_others(count: int) -> None:
    torch.manual_seed(0)
    features, segments, aim = torch.randn(11, 3, 5).half(), segments_of(LENGTHS), torch.randn(11, 5)
    mixer = LayerMixer(3)
    torch.nn.init.normal_(mixer.theta)

    def gradient(mixed: Tensor | None) -> Tensor:
        assert mixed is not None
        return torch.autograd.grad((mixed * aim).sum(), mixer.theta, retain_graph=True)[0]

    alone = pool_layers(features, *readers(0, 3, 5), segments, mixer.weights)[1]
    beside = pool_layers(features, *readers(count, 3, 5), segments, mixer.weights)[1]
    torch.testing.assert_close(beside, mixer(features))
    torch.testing.assert_close(gradient(beside), gradient(mixer(features)))
    assert torch.equal(beside, alone)
    assert torch.equal(gradient(beside), gradient(alone))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", [(12, 96), (1, 128), (5, 40), (1, 6), (3, 7)])
def test_a_reader_gets_the_same_bits_alone_and_among_others(shape: tuple[int, int], threads: int) -> None:
    lengths = [150, 37, 1, 64, 203]
    features, segments = torch.randn(sum(lengths), *shape).half(), segments_of(lengths)
    weights, queries = readers(13, *shape)
    aim = torch.randn(len(lengths), 13, shape[1])

    def pool_some(places: list[int]) -> tuple[Tensor, ...]:
        pooled, _ = pool_layers(features, weights[places], queries[places], segments)
        gradients = torch.autograd.grad((pooled * aim[:, places]).sum(), [weights, queries])
        return pooled, *(gradient[places] for gradient in gradients)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for others in (list(range(13)), list(range(12, -1, -1)), [3, 7, 12]):
            together = pool_some(others)
            for place in (3, 7, 12):
                alone, at = pool_some([place]), others.index(place)
                assert torch.equal(together[0][:, at], alone[0][:, 0])
                assert torch.equal(together[1][at], alone[1][0])
                assert torch.equal(together[2][at], alone[2][0])
    finally:
        torch.set_num_threads(before)


def test_readers_keep_float32_under_autocast() -> None:
    weights, queries = readers(2, layers=3, dim=5)
    features, segments = torch.randn(11, 3, 5).half(), segments_of(LENGTHS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled, _ = pool_layers(features, weights, queries, segments)
    assert torch.equal(pooled, pool_layers(features, weights, queries, segments)[0])

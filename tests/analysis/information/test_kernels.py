"""HSIC and CKA: 1 for the same, 0 for the independent, and what either is blind to."""

from __future__ import annotations

import numpy as np
import pytest

from disentangle_lightning.analysis.information.kernels import Kernel, alignment, u_centred
from disentangle_lightning.analysis.information.pairs import Floats, Pairs

KERNELS: tuple[Kernel, Kernel] = ("linear", "gaussian")


def normal(seed: int, utterances: int = 150, dim: int = 20) -> Floats:
    return np.random.default_rng(seed).normal(size=(utterances, 1, dim))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_turned_moved_and_scaled_copy_is_the_same(kernel: Kernel) -> None:
    x = normal(0)
    turn = np.linalg.qr(normal(1, 20, 20)[:, 0])[0]
    found = alignment(Pairs(x, 7 * x @ turn + 3), kernel, 99)
    assert found.value == pytest.approx(1.0, abs=1e-3)
    assert found.p == 0.01


@pytest.mark.parametrize("kernel", KERNELS)
def test_independent_representations_are_near_zero(kernel: Kernel) -> None:
    found = alignment(Pairs(normal(0), normal(1)), kernel, 99)
    assert abs(found.value) < 0.05
    assert found.low < 0 < found.high
    assert found.p > 0.05


def test_the_biased_estimate_would_not_be() -> None:
    """With as many dimensions as utterances, plain CKA of independent data is far from 0."""
    x, y = (normal(seed, 40, 40)[:, 0] for seed in (0, 1))
    x, y = x - x.mean(0), y - y.mean(0)
    plain = np.linalg.norm(x.T @ y) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert plain > 0.4
    assert abs(alignment(Pairs(x[:, None], y[:, None]), "linear", 1).value) < 0.1


def test_only_the_gaussian_kernel_sees_what_is_not_linear() -> None:
    x = normal(0, dim=1)
    pairs = Pairs(x, x**2 + 0.1 * normal(1, dim=1))
    assert alignment(pairs, "gaussian", 99).p == 0.01
    assert alignment(pairs, "gaussian", 99).value > 10 * abs(alignment(pairs, "linear", 99).value)


def test_a_rare_dependence_is_rejected() -> None:
    """One dimension of twenty is shared."""
    x, y = normal(0), normal(1)
    y[..., 0] = x[..., 0]
    for kernel in KERNELS:
        found = alignment(Pairs(x, y), kernel, 99)
        assert found.p < 0.05
        assert found.value < 0.2


def test_p_is_even_where_nothing_is_shared() -> None:
    ps = [alignment(Pairs(normal(2 * i, 30, 3), normal(2 * i + 1, 30, 3)), "gaussian", 39).p for i in range(60)]
    assert np.mean(np.array(ps) <= 0.05) <= 0.15
    assert np.mean(ps) == pytest.approx(0.5, abs=0.12)


def test_frames_of_an_utterance_are_permuted_together() -> None:
    """Frames that are alike within an utterance, and utterances that are independent: no dependence."""
    rng = np.random.default_rng(0)
    x, y = (rng.normal(size=(80, 1, 3)) + 0.1 * rng.normal(size=(80, 5, 3)) for _ in range(2))
    assert alignment(Pairs(x, y), "linear", 99).p > 0.05


def test_centred_matrices_multiply_to_the_unbiased_hsic() -> None:
    """Song et al. (2012), equation 5."""
    k, m = (part[:, 0] @ part[:, 0].T for part in (normal(0, 12, 3), normal(1, 12, 3)))
    n = len(k)
    without, other = (gram - np.diag(np.diag(gram)) for gram in (k, m))
    ones = np.ones(n)
    song = np.trace(without @ other)
    song += (ones @ without @ ones) * (ones @ other @ ones) / ((n - 1) * (n - 2))
    song -= 2 / (n - 2) * (ones @ without @ other @ ones)
    assert np.vdot(u_centred(k), u_centred(m)) == pytest.approx(song, rel=1e-5)
    assert np.vdot(u_centred(k), other) == pytest.approx(song, rel=1e-5)


def test_a_latent_that_never_changes_is_like_nothing() -> None:
    for kernel in KERNELS:
        assert alignment(Pairs(normal(0), np.ones((150, 1, 2))), kernel, 9).value == 0.0

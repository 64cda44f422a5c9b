"""Two representations of the same speech side by side, and the same at random: what dependence is measured against."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.analysis.latents import SplitLatents
from disentangle_lightning.tasks.linear_reader import shrink

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pairs:
    """Both representations at m places of each of U utterances; one place is the mean over the utterance.

    Attributes:
        x: [U, m, d].
        y: [U, m, e].
    """

    x: Floats
    y: Floats

    def __len__(self) -> int:
        return len(self.x)

    def some(self, utterances: int) -> Pairs:
        """The pairs of at most so many utterances, drawn at random; always the same ones."""
        if len(self) <= utterances:
            return self
        chosen = np.random.default_rng(0).permutation(len(self))[:utterances]
        return Pairs(self.x[chosen], self.y[chosen])


@dataclass(frozen=True)
class Dependence:
    """A measure of dependence, and what it is where utterances are paired at random.

    Attributes:
        value: of the true pairs.
        low, high: a 95 % interval.
        null: [P], of P random pairings.
    """

    value: float
    low: float
    high: float
    null: Floats

    @property
    def p(self) -> float:
        """The share of pairings, the true one among them, at which the measure is as large as at the true one.

        If the two are independent, p is below 0.05 once in twenty times, whatever the measure and however it was fitted
        on other utterances.
        """
        return float((1 + np.sum(self.null >= self.value)) / (1 + len(self.null)))

    def figures(self, name: str) -> dict[str, float]:
        """`NAME` with its interval, `NAME.null`, the 95 % quantile at random, and `NAME.p`."""
        return {
            name: self.value,
            f"{name}.ci_low": self.low,
            f"{name}.ci_high": self.high,
            f"{name}.null": float(np.quantile(self.null, 0.95)),
            f"{name}.p": self.p,
        }


def utterance_pairs(latents: SplitLatents, x: str, y: str) -> Pairs:
    """The means of both over each utterance."""
    return Pairs(latents.means(x)[:, None], latents.means(y)[:, None])


def frame_pairs(latents: SplitLatents, x: str, y: str, places: int) -> Pairs:
    """Both at so many frames of each utterance, evenly spaced from its beginning to its end.

    So the same place in two utterances is the same part of either, and pairing utterances at random keeps what the two
    representations owe to the place alone, such as silence at both ends. Every utterance weighs the same, however long.
    """
    lengths = latents.segments.lengths.numpy()
    starts = np.cumsum(lengths) - lengths
    rows = starts[:, None] + ((np.arange(places) + 0.5) / places * lengths[:, None]).astype(np.int64)
    return Pairs(*(latents.frames[name].double().numpy()[rows] for name in (x, y)))


def whitened(fitted: Pairs, measured: Pairs) -> tuple[Pairs, Pairs]:
    """Both with dimensions that are uncorrelated and of deviation 1 on the first.

    Mutual information is the same in any coordinates, but what learns it finds more where none is large or said twice.
    Correlations are shrunk as so few utterances ask for, and a dimension that never changes stays at 0.
    """
    (x_mean, x_turn), (y_mean, y_turn) = _whitening(fitted.x), _whitening(fitted.y)
    learnt, other = (Pairs((p.x - x_mean) @ x_turn, (p.y - y_mean) @ y_turn) for p in (fitted, measured))
    return learnt, other


def _whitening(values: Floats) -> tuple[Floats, Floats]:
    """The mean [d], and the matrix [d, d] that makes what is left of [U, m, d] white."""
    mean, scale = values.mean((0, 1)), values.std((0, 1))
    varies = scale > 1e-9 * np.abs(mean)
    inverse = np.where(varies, 1 / np.where(varies, scale, 1), 0.0)
    rows = ((values - mean) * inverse).reshape(-1, len(mean))
    variances, directions = np.linalg.eigh(shrink(rows.T @ rows / len(rows), len(values)))
    return mean, inverse[:, None] * directions / np.sqrt(np.maximum(variances, 1e-6))


def random_pairings(utterances: int, count: int) -> NDArray[np.int64]:
    """[count, U]: whose y each utterance's x is paired with; the same on every call."""
    rng = np.random.default_rng(0)
    return np.stack([rng.permutation(utterances) for _ in range(count)])

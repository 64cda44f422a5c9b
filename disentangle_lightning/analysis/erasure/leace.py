"""Linear erasure in closed form: what is left of hidden states when no linear reader may find a label in them."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.analysis.latents import SplitLatents

Eraser = Callable[[Tensor], Tensor]
"""Frames [N, d], or means of utterances [U, d], to the same without the label."""


def fit_eraser(vectors: Tensor, concept: Tensor) -> Eraser:
    """LEACE (arXiv 2306.03819, theorem 4.3), from the package of its authors.

    r(x) = x - W^+ P W (x - mean x), where W = cov(x)^(-1/2) whitens and P projects on the columns of W cov(x, z): the
    affine change of the least expected square after which x and the concept z do not covary, so that no linear reader
    does better than one that sees nothing. The covariance is shrunk (arXiv 1308.2608).

    When not to trust it: it promises nothing for readers that are not linear, nor for speech that it was not fitted on;
    and a concept of more than d classes leaves nothing of d dimensions.

    Args:
        vectors: [N, d].
        concept: [N, k], one-hot.
    """
    with warnings.catch_warnings():
        # The package compiles a function with torch.jit, which is going away, when it is imported.
        warnings.simplefilter("ignore", FutureWarning)
        from concept_erasure import LeaceEraser

    # What is below the threshold is left in: the package's own, 0.01, leaves weak traces of a label.
    eraser = LeaceEraser.fit(vectors.double(), concept.double(), svd_tol=1e-5)

    def erase(x: Tensor) -> Tensor:
        without: Tensor = eraser(x.double()).to(x.dtype)
        return without

    return erase


def eraser_of(latents: SplitLatents, labels: Sequence[str]) -> Eraser:
    """Erase labels, all at once, from the averaged hidden states.

    Fitted on the means of the utterances in which they are known, of which each counts once, since the labels are those
    of utterances; an affine change of every frame is the same change of the mean. (Fitted on frames, it leaves more to
    linear readers of means and no less to those of frames.)
    """
    known = np.flatnonzero(np.all([latents.labels[label] >= 0 for label in labels], axis=0))
    columns = [np.eye(len(latents.label_names[label]))[latents.labels[label][known]] for label in labels]
    return fit_eraser(torch.from_numpy(latents.means("hidden")[known]), torch.from_numpy(np.hstack(columns)))

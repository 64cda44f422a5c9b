"""What clip length and speaking rate alone give away: the part of a leak that no frame-level transcript can hide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.tasks.metrics import classification_figures


def duration_figures(data: FrameFeatureDataModule) -> dict[str, float]:
    """`probe.duration.LABEL.accuracy`, `.chance` and `.leakage` for every label of the data.

    A transcript with a place in time for every letter shows how long the clip is and how fast it is spoken. Gradient
    boosted trees on frames, letters and frames per letter of each utterance are trained on the training split of the
    data and tested on its test split. They know nothing but these three numbers, so what they find is a floor for
    the leakage of z_textual, not a fault of its bottleneck.
    """
    train, train_labels = _table(list(data.train_dataloader()))
    test, test_labels = _table(list(data.test_dataloader()))
    figures: dict[str, float] = {}
    for name in data.label_names:
        known, asked = train_labels[name] >= 0, test_labels[name] >= 0
        predictions = _predict(train[known], train_labels[name][known], test[asked])
        figures |= classification_figures(
            f"probe.duration.{name}",
            test_labels[name][asked].tolist(),
            predictions.tolist(),
            data.label_counts[name],
        )
    return figures


def _table(batches: list[FrameBatch]) -> tuple[NDArray[np.float64], dict[str, NDArray[np.int64]]]:
    frames = np.concatenate([b.segments.lengths.numpy() for b in batches]).astype(float)
    letters = np.concatenate([b.target_lengths.numpy() for b in batches]).astype(float)
    labels = {name: np.concatenate([b.labels[name].numpy() for b in batches]) for name in batches[0].labels}
    return np.stack([frames, letters, frames / np.maximum(letters, 1)], axis=1), labels


def _predict(features: NDArray[np.float64], labels: NDArray[np.int64], asked: NDArray[np.float64]) -> NDArray[np.int64]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # At the default of 20 utterances a leaf, a probe split of less than 40 would be found to give nothing away.
    leaf = min(20, max(1, len(labels) // 10))
    model = HistGradientBoostingClassifier(max_depth=3, min_samples_leaf=leaf, early_stopping=False, random_state=0)
    with threadpool_limits(1):  # three columns: handing work to threads would cost more than it gains
        predictions: NDArray[np.int64] = model.fit(features, labels).predict(asked)
    return predictions

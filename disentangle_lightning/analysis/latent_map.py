"""Both latents of every test utterance, in two dimensions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.nn.segments import segment_mean
from disentangle_lightning.tasks.base import load_task, write_json
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

MOST_POINTS = 500
"""More points hide each other, and t-SNE's time grows faster than their number."""


@torch.no_grad()
def write_latent_map(data: FrameFeatureDataModule, stage2_checkpoints: dict[str, Path], file: Path) -> None:
    """Write t-SNE maps of the utterance means of z_textual and of each z_acoustic over the test split.

    t-SNE (van der Maaten and Hinton, 2008) keeps neighbours together; distances between clusters and their sizes
    mean nothing. The figures that count are the probes'.

    Args:
        data: the data of the stages, with the labels to colour by.
        stage2_checkpoints: a Stage 2 for each task; z_textual is the same in all of them.
        file: the JSON file to write.
    """
    stages = {task: load_task(path, Stage2ConditionalVIB) for task, path in stage2_checkpoints.items()}
    means: dict[str, list[torch.Tensor]] = {}
    ids: list[str] = []
    labels: dict[str, list[str | None]] = {name: [] for name in data.label_names}
    for batch in data.test_dataloader():
        ids += batch.ids
        for name, classes in data.label_names.items():
            labels[name] += [classes[i] if i >= 0 else None for i in batch.labels[name].tolist()]
        for task, stage in stages.items():
            if task == next(iter(stages)):
                means.setdefault("textual", []).append(segment_mean(stage.condition(batch), batch.segments))
            z = stage.latent_encoder(batch.features, batch.segments).mean
            means.setdefault(f"acoustic_{task}", []).append(segment_mean(z, batch.segments))
    keep = _spread(len(ids))
    content: dict[str, Any] = {name: {"points": _tsne(torch.cat(parts).numpy()[keep])} for name, parts in means.items()}
    content["ids"] = [ids[i] for i in keep]
    content["labels"] = {name: [values[i] for i in keep] for name, values in labels.items()}
    content["method"] = "t-SNE of utterance means"
    write_json(file, content)


def _spread(count: int) -> list[int]:
    """At most `MOST_POINTS` places, evenly spread over `count`."""
    places: list[int] = np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).astype(int)).tolist()
    return places


def _tsne(points: np.ndarray[Any, Any]) -> list[list[float]]:
    from sklearn.manifold import TSNE

    if len(points) == 1:
        return [[0.0, 0.0]]
    # From the principal components, where there are two: a collapsed stage may put every utterance in one place.
    init = "pca" if min(points.shape) > 1 and points.std(axis=0).any() else "random"
    tsne = TSNE(perplexity=min(30.0, (len(points) - 1) / 3), init=init, random_state=0)
    with threadpool_limits(1):  # so that sums are in one order on every machine, and never wait for a busy core
        coordinates = tsne.fit_transform(points)
    rounded: list[list[float]] = np.round(coordinates, 3).tolist()
    return rounded

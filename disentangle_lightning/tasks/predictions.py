"""What `predict` leaves behind: one file of frame-level tensors per utterance, one line of text for each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from safetensors.torch import save_file

from disentangle_lightning.corpus.file_names import file_stem
from disentangle_lightning.tasks.base import TaskModule


class PredictionWriter(BasePredictionWriter):
    """`FOLDER/ID.safetensors` with every frame-level tensor, and `FOLDER/predictions-RANK.jsonl` with the rest.

    Args:
        folder: where the files go.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(write_interval="batch")
        self.folder = folder

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if trainer.is_global_zero:
            for index in self.folder.glob("predictions-*.jsonl"):  # an earlier run may have had more processes
                index.unlink()
        trainer.strategy.barrier()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: dict[str, Any],
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if cast(TaskModule, pl_module).is_repeat(batch_idx):
            return
        lengths = prediction["lengths"].tolist()
        frames = {name: values.cpu().split(lengths) for name, values in prediction["frames"].items()}
        per_utterance = {k: v for k, v in prediction.items() if k not in ("ids", "lengths", "frames")}
        with self._index(trainer).open("a", encoding="utf-8") as index:
            for i, id in enumerate(prediction["ids"]):
                tensors = {name: parts[i].contiguous() for name, parts in frames.items()}
                save_file(tensors, self.folder / f"{file_stem(id)}.safetensors")
                line = {"id": id, "file": f"{file_stem(id)}.safetensors"}
                line |= {name: values[i] for name, values in per_utterance.items()}
                index.write(json.dumps(line, ensure_ascii=False) + "\n")

    def _index(self, trainer: Trainer) -> Path:
        return self.folder / f"predictions-{trainer.global_rank}.jsonl"

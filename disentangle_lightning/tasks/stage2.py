"""Stage 2: given what was said, keep only what a task needs beyond it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.beta import BetaSchedule
from disentangle_lightning.nn.bottleneck import Variance
from disentangle_lightning.nn.layer_mixer import Mixing
from disentangle_lightning.nn.pooling import AttentionPooling, QueryInit
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.base import (
    check_same_features,
    freeze,
    gather,
    init_arguments,
    label_classes,
    load_task,
)
from disentangle_lightning.tasks.frozen_latents import FrozenLatents
from disentangle_lightning.tasks.metrics import classification_figures
from disentangle_lightning.tasks.stage1 import Stage1VIB, transcribe
from disentangle_lightning.tasks.vib_stage import Units, VIBStage


class Stage2ConditionalVIB(VIBStage):
    """z_acoustic: a second bottleneck beside the frozen z_textual (arXiv 2410.03037, section 3).

    Each of the two streams is pooled by attention; the pooled vectors are concatenated and classified by one linear
    layer. The condition enters only there. A checkpoint carries Stage 1, so it needs no other file.

    Selected on dev/objective. The test writes summary.json (`stage2_TASK.accuracy`, ...) and layer_weights.json.

    Args:
        inputs: see `VIBStage`.
        task: the label to predict.
        stage1: the checkpoint of a `Stage1VIB` (inside a checkpoint of this class: its hyper-parameters).
        query_init, scaled_attention: see `AttentionPooling`.
        others: see `VIBStage`.

    Raises:
        UserError: the label is unknown, or `stage1` is no Stage 1 or was trained on other features.
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        task: str,
        stage1: str | dict[str, Any],
        latent_dim: int = 128,
        mixer: Mixing = "learned",
        layer: int | None = None,
        variance: Variance = "log_variance",
        deterministic: bool = False,
        dropout: float = 0.1,
        context: int = 0,
        beta: float = 1e-4,
        schedule: BetaSchedule = "warmup",
        beta_start: float = 0.1,
        rate: float | None = None,
        distance: float | None = None,
        control: str | list[float] | None = None,
        units: Units = "nats",
        query_init: QueryInit = "zeros",
        scaled_attention: bool = True,
        learning_rate: float = 1e-3,
        mixer_rate: float = 10.0,
        weight_decay: float = 0.005,
        warmup_fraction: float = 0.1,
    ) -> None:
        hparams = init_arguments(locals())
        super().__init__(
            inputs, latent_dim, mixer, layer, variance, deterministic, dropout, context, beta, schedule, beta_start,
            rate, distance, control, units, learning_rate, mixer_rate, weight_decay, warmup_fraction,
        )  # fmt: skip
        self.task = task
        self.classes = label_classes(self.inputs["label_names"], task)
        if isinstance(stage1, dict):
            self.stage1 = Stage1VIB(**stage1)
        else:
            self.stage1 = load_task(stage1, Stage1VIB)
            check_same_features(self.inputs, self.stage1.inputs, f"Stage 1 ({Path(stage1)})")
        hparams["stage1"] = dict(self.stage1.hparams)
        self.save_hyperparameters(hparams | {"control": self.control_errors})
        freeze(self.stage1)
        self._condition = FrozenLatents(self.stage1.latent_encoder)
        textual_dim: int = self.stage1.hparams["latent_dim"]
        self.pool_textual = AttentionPooling(textual_dim, query_init, scaled_attention)
        self.pool_acoustic = AttentionPooling(latent_dim, query_init, scaled_attention)
        self.classifier = nn.Linear(textual_dim + latent_dim, len(self.classes))
        self.dev_accuracy = MulticlassAccuracy(len(self.classes), average="micro", ignore_index=-1)
        self._answers: list[list[tuple[int, int]]] = []

    @property
    def targets(self) -> list[str]:
        return [self.task]

    def train(self, mode: bool = True) -> Stage2ConditionalVIB:
        """Training mode for everything but the frozen Stage 1."""
        super().train(mode)
        self.stage1.eval()
        return self

    def condition(self, batch: FrameBatch) -> Tensor:
        """z_textual of the frozen Stage 1, [N, d]."""
        return self._condition(batch)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._condition.remember(self.device, self.trainer.num_devices)

    def on_fit_end(self) -> None:
        self._condition.forget()

    def classify(self, batch: FrameBatch, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [B, classes], and the attention over frames of either stream, [N] each (textual, acoustic)."""
        return self.read(self.condition(batch), z, batch.segments)

    def read(self, textual: Tensor, acoustic: Tensor, segments: Segments) -> tuple[Tensor, Tensor, Tensor]:
        """What `classify` says of these latents, z_textual and z_acoustic, [N, d] each."""
        pooled_textual, textual_attention = self.pool_textual(textual, segments)
        pooled_acoustic, acoustic_attention = self.pool_acoustic(acoustic, segments)
        logits: Tensor = self.classifier(torch.cat([pooled_textual, pooled_acoustic], dim=-1))
        return logits, textual_attention, acoustic_attention

    def logits(self, batch: FrameBatch, z: Tensor) -> Tensor:
        """Of each utterance over the task's classes, [B, classes]."""
        return self.classify(batch, z)[0]

    def task_nats(self, batch: FrameBatch, logits: Tensor) -> tuple[Tensor, Tensor]:
        targets = batch.labels[self.task]
        return F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="none"), targets >= 0

    def score(self, batch: FrameBatch, logits: Tensor) -> None:
        self.dev_accuracy.update(logits, batch.labels[self.task])

    def task_error(self) -> float:
        return 1.0 - float(self.dev_accuracy.compute())

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        self.log("dev/accuracy", self.dev_accuracy.compute(), prog_bar=True)
        self.dev_accuracy.reset()

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        posterior = self.latent_encoder(batch.features, batch.segments)
        self.update_rate(posterior, batch)
        predictions = self.logits(batch, posterior.mean).argmax(-1)
        pairs = zip(batch.labels[self.task].tolist(), predictions.tolist(), strict=True)
        self._answers.append([(target, prediction) for target, prediction in pairs if target >= 0])

    def on_test_epoch_end(self) -> None:
        answers = gather(self._answers)
        name = f"stage2_{self.task}"
        counts = self.trainer.datamodule.label_counts[self.task]  # type: ignore[attr-defined]
        figures = classification_figures(name, [t for t, _ in answers], [p for _, p in answers], counts)
        figures |= self.rate_results(name)
        self.log("test/accuracy", figures[f"{name}.accuracy"])
        self.write_results(figures, layer_weights=self.layer_weights())
        self._answers = []

    def predict_step(self, batch: FrameBatch, batch_idx: int) -> dict[str, Any]:
        z = self.latent_encoder(batch.features, batch.segments).mean
        logits, textual_attention, acoustic_attention = self.classify(batch, z)
        condition = self.condition(batch)
        return {
            "ids": batch.ids,
            "lengths": batch.segments.lengths,
            "frames": {
                "z_textual": condition,
                "z_acoustic": z,
                "attention_textual": textual_attention,
                "attention_acoustic": acoustic_attention,
            },
            "transcripts": transcribe(batch, self.stage1.logits(batch, condition), self.stage1.tokenizer),
            self.task: [self.classes[i] for i in logits.argmax(-1).tolist()],
        }

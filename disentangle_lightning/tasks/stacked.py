"""A bottleneck of any tasks on top of any frozen stages: one stage alone, the other order, several tasks, a third."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.beta import BetaSchedule
from disentangle_lightning.nn.bottleneck import Variance
from disentangle_lightning.nn.layer_mixer import Mixing
from disentangle_lightning.nn.pooling import QueryInit
from disentangle_lightning.tasks.base import (
    Inputs,
    check_same_features,
    checkpoint_kind,
    freeze,
    gather,
    init_arguments,
    label_classes,
    load_task,
)
from disentangle_lightning.tasks.frozen_latents import FrozenLatents
from disentangle_lightning.tasks.stacked_head import ClassesOfStreams, LettersOfStreams, StreamHead
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.vib_stage import Units, VIBStage


class StackedVIB(VIBStage):
    """What the protocol of two stages is compared with; its latent z is learnt for all tasks at once, given others.

    The streams are the frozen latents of `given`, in that order, and z. As in `Stage2ConditionalVIB`, they meet only in
    the heads, so that z need not hold what a given latent says. A label's head pools each stream by an attention of its
    own and classifies the pooled vectors by one linear layer; that of `ctc` reads all streams of a frame by one linear
    layer. The tasks' losses are added up.

    - one stage alone: `tasks: [speaker]`, `given: []`
    - the other order: `tasks: [ctc]`, `given` the checkpoint of that
    - several tasks in one Stage 2: `tasks: [speaker, style]`, `given` a Stage 1
    - a third stage: `tasks: [style]`, `given` a Stage 1 and a Stage 2

    With one task it is what the protocol has: a Stage 1 for `ctc` given nothing, a Stage 2 for a label given a Stage 1.
    A checkpoint carries the stages it was given, so it needs no other file.

    Selected on dev/objective. The test writes summary.json (`stacked.TASK.accuracy`, `stacked.ctc.wer`,
    `stacked.rate_bits_per_second`, ...) and layer_weights.json.

    Args:
        inputs: see `VIBStage`.
        tasks: labels, and `ctc` for transcription.
        given: checkpoints of stages of any kind (inside a checkpoint of this class: kinds and hyper-parameters).
        query_init, scaled_attention: see `AttentionPooling`.
        others: see `VIBStage`.

    Raises:
        UserError: there is no task, one is named twice or no label of the data, or what is given is no stage or was
            trained on other features.
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        tasks: list[str],
        given: list[str | dict[str, Any]],
        latent_dim: int = 128,
        mixer: Mixing = "learned",
        layer: int | None = None,
        variance: Variance = "log_variance",
        deterministic: bool = False,
        dropout: float = 0.1,
        context: int = 0,
        beta: float = 1e-3,
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
        if not tasks or len(set(tasks)) != len(tasks):
            raise UserError(f"StackedVIB.tasks is {tasks}; name one or more different labels, or ctc for transcription")
        stages = [load_stage(source, self.inputs) for source in given]
        hparams["given"] = [stage_source(stage) for stage in stages]
        self.save_hyperparameters(hparams | {"control": self.control_errors})
        self.given = nn.ModuleList(stages)
        freeze(self.given)
        self._conditions = [FrozenLatents(stage.latent_encoder) for stage in stages]
        dims = [*(stage.hparams["latent_dim"] for stage in stages), latent_dim]
        self.tasks = list(tasks)
        self.heads = nn.ModuleList(self._head(task, dims, query_init, scaled_attention) for task in tasks)

    def _head(self, task: str, dims: Sequence[int], query_init: QueryInit, scaled: bool) -> StreamHead:
        if task == CTC_TARGET:
            return LettersOfStreams(dims, self.inputs["alphabet"])
        return ClassesOfStreams(task, dims, label_classes(self.inputs["label_names"], task), query_init, scaled)

    @property
    def targets(self) -> list[str]:
        return self.tasks

    def each_head(self) -> list[StreamHead]:
        """In the order of the tasks."""
        return [cast(StreamHead, head) for head in self.heads]

    def train(self, mode: bool = True) -> StackedVIB:
        """Training mode for everything but the frozen stages."""
        super().train(mode)
        self.given.eval()
        return self

    def on_fit_start(self) -> None:
        super().on_fit_start()
        for condition in self._conditions:
            condition.remember(self.device, self.trainer.num_devices)

    def on_fit_end(self) -> None:
        for condition in self._conditions:
            condition.forget()

    def logits(self, batch: FrameBatch, z: Tensor) -> Any:
        """What the head of each task says, {task: [B, classes], or [N, V] of transcription}."""
        streams = [*(condition(batch) for condition in self._conditions), z]
        return {head.task: head(streams, batch.segments) for head in self.each_head()}

    def task_nats(self, batch: FrameBatch, logits: Any) -> tuple[Tensor, Tensor]:
        """The sum over tasks; in the paper's units, each task's nats are divided by what it counts."""
        nats, counted = zip(*(head.nats(batch, logits[head.task]) for head in self.each_head()), strict=True)
        if self.units == "paper":
            weights = [head.paper_weights(batch).clamp(min=1) for head in self.each_head()]
            nats = tuple(own / weight for own, weight in zip(nats, weights, strict=True))
        return torch.stack(nats).sum(0), torch.stack(counted).any(0)

    def score(self, batch: FrameBatch, logits: Any) -> None:
        for head in self.each_head():
            head.score(batch, logits[head.task])

    def task_error(self) -> float:
        """The mean over tasks."""
        errors = [head.dev_error() for head in self.each_head()]
        return sum(errors) / len(errors)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        for head in self.each_head():
            self.log(f"dev/{head.task}_error", head.dev_error(), prog_bar=True)
            head.forget_dev()

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        posterior = self.latent_encoder(batch.features, batch.segments)
        self.update_rate(posterior, batch)
        logits = self.logits(batch, posterior.mean)
        for head in self.each_head():
            head.answer(batch, logits[head.task])

    def on_test_epoch_end(self) -> None:
        figures = self.rate_results("stacked")
        counts = self.trainer.datamodule.label_counts  # type: ignore[attr-defined]
        for head in self.each_head():
            figures |= head.figures(f"stacked.{head.task}", gather(head.answers), counts)
            head.answers = []
        self.write_results(figures, layer_weights=self.layer_weights())

    def predict_step(self, batch: FrameBatch, batch_idx: int) -> dict[str, Any]:
        z = self.latent_encoder(batch.features, batch.segments).mean
        logits = self.logits(batch, z)
        answers = {head.task: head.answers_to(batch, logits[head.task]) for head in self.each_head()}
        return {"ids": batch.ids, "lengths": batch.segments.lengths, "frames": {"z": z}, **answers}


STAGES: dict[str, type[VIBStage]] = {kind.__name__: kind for kind in (Stage1VIB, Stage2ConditionalVIB, StackedVIB)}
"""Every kind of stage by the name that its checkpoints carry."""


def load_stage(
    source: str | dict[str, Any], inputs: Inputs, kinds: Sequence[type[VIBStage]] = tuple(STAGES.values())
) -> VIBStage:
    """A trained stage of one of several kinds from its checkpoint, or an untrained one from what `stage_source` says.

    Raises:
        UserError: see `load_task`; or it was trained on other features.
    """
    if isinstance(source, dict):
        return STAGES[source["kind"]](**source["hparams"])
    found = checkpoint_kind(source)
    stage = load_task(source, next((kind for kind in kinds if kind.__name__ == found), kinds[0]))
    check_same_features(inputs, stage.inputs, f"the stage in {Path(source)}")
    return stage


def stage_source(stage: VIBStage) -> dict[str, Any]:
    """Kind and hyper-parameters, in plain types: what a checkpoint that carries the stage says of it."""
    return {"kind": type(stage).__name__, "hparams": dict(stage.hparams)}

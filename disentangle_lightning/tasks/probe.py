"""Probes: what can be read from hidden states or from either latent, all targets in one pass over the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.layer_mixer import LayerMixer, Mixing
from disentangle_lightning.nn.pooling import QueryInit
from disentangle_lightning.tasks.base import (
    LEAST_WEIGHT,
    Inputs,
    TaskModule,
    freeze,
    gather,
    init_arguments,
    label_classes,
    mean_over_ranks,
)
from disentangle_lightning.tasks.frozen_latents import FrozenLatents
from disentangle_lightning.tasks.metrics import classification_figures, transcription_figures
from disentangle_lightning.tasks.probe_head import ClassHead, CTCHead, Head, ProbeHead, inputs_for
from disentangle_lightning.tasks.stacked import STAGES, load_stage, stage_source
from disentangle_lightning.tasks.stage1 import Stage1VIB, transcript_pairs
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.vib_stage import VIBStage

Representation = Literal["hidden", "textual", "acoustic", "latent"]

_KINDS: dict[str, Sequence[type[VIBStage]]] = {
    "textual": (Stage1VIB, Stage2ConditionalVIB),
    "acoustic": (Stage2ConditionalVIB,),
    "latent": tuple(STAGES.values()),
}
"""Of which stages a representation may be read."""


class Probe(TaskModule):
    """Heads on one frozen representation, one per target, each as if trained alone.

    The heads share the pass over the data and nothing else: each has its own parameters, gradient clipping and best
    dev epoch, so the figures do not depend on which targets are trained together.

    The test writes summary.json (`probe.NAME.TARGET.accuracy`, `.leakage`, `probe.NAME.ctc.wer`, ...) where NAME is
    hidden, textual, acoustic_TASK or latent; layer_weights.json for hidden states; and transcripts.json.

    Args:
        inputs: what the data module says of its features, alphabet and labels.
        targets: labels, and `ctc` for transcription.
        representation: `hidden` states; `textual` latents of a Stage 1 (or of the Stage 1 inside a Stage 2);
            `acoustic` latents of a Stage 2; the own `latent` of a stage of any kind.
        source: the checkpoint of the stage (inside a checkpoint of this class: its kind and hyper-parameters).
        head: `linear`, or `mlp` with one hidden layer of the representation's size.
        mixer, layer: how each head mixes hidden states, see `LayerMixer`; not used on latents.
        query_init, scaled_attention: see `AttentionPooling`.
        clip_gradient: the largest gradient norm of each head.
        seed: decides the heads' first weights; None takes that of the process, which `seed_everything` sets.
        learning_rate, mixer_rate, weight_decay, warmup_fraction: see `TaskModule`.

    Raises:
        UserError: a target is no label of the data, or the source is missing, not wanted, of another stage, or was
            trained on other features.
    """

    def __init__(
        self,
        inputs: dict[str, Any],
        targets: list[str],
        representation: Representation = "hidden",
        source: str | dict[str, Any] | None = None,
        head: Head = "linear",
        mixer: Mixing = "learned",
        layer: int | None = None,
        query_init: QueryInit = "zeros",
        scaled_attention: bool = True,
        clip_gradient: float = 1.0,
        seed: int | None = None,
        learning_rate: float = 1e-3,
        mixer_rate: float = 10.0,
        weight_decay: float = 0.005,
        warmup_fraction: float = 0.1,
    ) -> None:
        hparams = init_arguments(locals())
        super().__init__(learning_rate, weight_decay, warmup_fraction, mixer_rate)
        self.inputs = cast(Inputs, inputs)
        self.representation = representation
        self.clip_gradient = clip_gradient
        self.source = _load_source(representation, source, self.inputs)
        self._latents: FrozenLatents | None = None
        if self.source is not None:
            self._latents = FrozenLatents(self.source.latent_encoder)
            hparams["source"] = stage_source(self.source)
        self.save_hyperparameters(hparams)
        self.tokenizer = CTCTokenizer(self.inputs["alphabet"])
        seed = torch.initial_seed() if seed is None else seed

        dim = self.inputs["feature_dim"] if self.source is None else self.source.hparams["latent_dim"]
        num_layers = self.inputs["num_layers"] if self.source is None else None
        self.heads = nn.ModuleDict()
        for target in targets:
            if hasattr(nn.ModuleDict, target):  # PyTorch keeps these names for itself
                raise UserError(f"label '{target}' cannot be probed under this name; rename it in the corpus")
            if target == CTC_TARGET:
                self.heads[target] = CTCHead(seed, dim, self.tokenizer, head, num_layers, mixer, layer)
            else:
                classes = len(label_classes(self.inputs["label_names"], target))
                self.heads[target] = ClassHead(
                    target, seed, dim, classes, head, query_init, scaled_attention, num_layers, mixer, layer
                )
        self._parameters_of_heads = [list(head.parameters()) for head in self.heads.values()]
        self._transcripts: list[list[dict[str, str]]] = []
        self._answers: dict[str, list[list[tuple[int, int]]]] = {name: [] for name in targets if name != CTC_TARGET}

    @property
    def targets(self) -> list[str]:
        return list(self.heads)

    @property
    def name(self) -> str:
        """hidden, textual, acoustic_TASK or latent: how the figures are named."""
        if isinstance(self.source, Stage2ConditionalVIB) and self.representation == "acoustic":
            return f"acoustic_{self.source.task}"
        return self.representation

    def train(self, mode: bool = True) -> Probe:
        """Training mode for the heads; the source stays frozen."""
        super().train(mode)
        if self.source is not None:
            self.source.eval()
        return self

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self._latents is not None:
            self._latents.remember(self.device, self.trainer.num_devices)

    def on_fit_end(self) -> None:
        if self._latents is not None:
            self._latents.forget()

    def represent(self, batch: FrameBatch) -> Tensor:
        """Hidden states [N, layers, D], or the mean of the latent posterior [N, d]."""
        return batch.features if self._latents is None else self._latents(batch)

    def logits(self, batch: FrameBatch) -> dict[str, Tensor]:
        """What each head says of a batch: [B, classes] for a label, [N, V] for transcription."""
        heads = dict(self.each_head())
        inputs = inputs_for(heads, self.represent(batch), batch.segments)
        return {name: head.classifier(inputs[name]) for name, head in heads.items()}

    def training_step(self, batch: FrameBatch, batch_idx: int) -> Tensor:
        logits = self.logits(batch)
        parts = [head.losses(logits[name], batch) for name, head in self.each_head()]
        sums = torch.stack([total for total, _ in parts])
        counts = torch.stack([count for _, count in parts])
        # The counts are those of the batches of all processes; where none has a target, its sum is zero.
        mean_sums, mean_counts = mean_over_ranks(torch.stack([sums, counts])).unbind()
        mean_counts = mean_counts.clamp(min=LEAST_WEIGHT)
        figures = zip(self.heads, mean_sums / mean_counts, strict=True)
        self.log_step({f"train/{name}_loss": loss for name, loss in figures}, batch)
        # The heads share no parameter, so the gradient of the sum is each head's own gradient.
        return (sums / mean_counts).sum()

    def configure_gradient_clipping(self, *_: Any, **__: Any) -> None:
        """Each head by its own norm: a loud head must not slow the others down."""
        for parameters in self._parameters_of_heads:
            torch.nn.utils.clip_grad_norm_(parameters, self.clip_gradient)

    def validation_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        logits = self.logits(batch)
        for name, head in self.each_head():
            head.update(logits[name], batch)

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        for name, head in self.each_head():
            measure = "wer" if name == CTC_TARGET else "accuracy"
            self.log(f"dev/{name}_{measure}", head.keep_if_best())

    def on_test_start(self) -> None:
        for _, head in self.each_head():
            head.restore_best()

    def test_step(self, batch: FrameBatch, batch_idx: int) -> None:
        if self.is_repeat(batch_idx):
            return
        for name, logits in self.logits(batch).items():
            if name == CTC_TARGET:
                self._transcripts.append(transcript_pairs(batch, logits, self.tokenizer))
            else:
                pairs = zip(batch.labels[name].tolist(), logits.argmax(-1).tolist(), strict=True)
                self._answers[name].append([pair for pair in pairs if pair[0] >= 0])

    def on_test_epoch_end(self) -> None:
        figures: dict[str, float] = {}
        files: dict[str, Any] = {}
        if CTC_TARGET in self.heads:
            files["transcripts"] = transcripts = gather(self._transcripts)
            figures |= transcription_figures(
                f"probe.{self.name}.ctc",
                [t["reference"] for t in transcripts],
                [t["hypothesis"] for t in transcripts],
            )
        for label, own_answers in self._answers.items():
            answers = gather(own_answers)
            counts = self.trainer.datamodule.label_counts[label]  # type: ignore[attr-defined]
            figures |= classification_figures(
                f"probe.{self.name}.{label}", [t for t, _ in answers], [p for _, p in answers], counts
            )
        if self.source is None:
            files["layer_weights"] = {
                name: {
                    "layers": list(self.inputs["feature_header"]["layers"]),
                    "weights": cast(LayerMixer, head.mixer).weights.tolist(),
                }
                for name, head in self.each_head()
            }
        self.write_results(figures, **files)
        self._transcripts = []
        self._answers = {name: [] for name in self._answers}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["best_heads"] = {name: [head.best_score, head.best] for name, head in self.each_head()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        for name, head in self.each_head():
            score, head.best = checkpoint["best_heads"][name]
            head.best_score = tuple(score)

    def each_head(self) -> list[tuple[str, ProbeHead]]:
        """Targets and their heads, in the order given."""
        return [(name, cast(ProbeHead, head)) for name, head in self.heads.items()]


def _load_source(
    representation: Representation, source: str | dict[str, Any] | None, inputs: Inputs
) -> VIBStage | None:
    """The frozen stage whose latents are probed; None for hidden states."""
    if representation == "hidden":
        if source:
            raise UserError("a probe on hidden states reads no checkpoint; leave `source` out")
        return None
    if source is None:
        raise UserError(f"a probe on {representation} latents needs `source`, the checkpoint of the stage")
    stage = load_stage(source, inputs, _KINDS[representation])
    if representation == "textual" and isinstance(stage, Stage2ConditionalVIB):
        stage = stage.stage1
    freeze(stage)
    return stage

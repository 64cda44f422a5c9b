"""What trained stages, their probes and closed-form readers make of one kind of speech."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.analysis.transfer.conditions import Condition
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.nn.segments import segment_mean, segment_sum
from disentangle_lightning.report.findings import RATE_NEAR_ZERO
from disentangle_lightning.tasks.base import freeze, load_task
from disentangle_lightning.tasks.linear_reader import Array, fit_classes, moments
from disentangle_lightning.tasks.metrics import (
    bits_per_second,
    bootstrap_ratio,
    classification_figures,
    transcription_figures,
)
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB, transcript_pairs
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

COLLAPSE_SHARE = 0.1
"""A stage has collapsed where its rate or its variance is below this share of that on clean speech."""


@dataclass(frozen=True)
class Trained:
    """The stages and probes of one seed, frozen, and the utterances of each class that trained the classifiers."""

    stage1: Stage1VIB
    stage2: dict[str, Stage2ConditionalVIB]
    probes: dict[str, Probe]
    counts: dict[str, dict[str, list[int]]]
    """{split: {label: utterances of each class}}."""

    @classmethod
    def of(cls, run: TrainedRun, seed: int) -> Trained:
        """Those of a run; probes are taken from it as they are."""
        probes = {}
        for name in run.probed(seed):
            probe = load_task(run.checkpoint(seed, f"probe_{name}"), Probe)
            for _, head in probe.each_head():
                head.restore_best()
            freeze(probe)
            probes[name] = probe
        counts = {split: run.data(train_split=split).label_counts for split in ("train", "probe")}
        return cls(run.stage1(seed), {task: run.stage2(seed, task) for task in run.tasks}, probes, counts)


@dataclass
class Heard:
    """What one seed has made of the utterances of a split so far.

    Attributes:
        frames: of each utterance.
        nats: {stage: KL of each utterance}.
        sums, squares: {stage: [d] of the latent's means over frames, and of their squares}.
        means: {representation: [B, d] of each batch}, over the frames of each utterance.
        labels: {label: classes of each utterance}, -1 where unknown.
        answers: {figure's name: classes answered}.
        transcripts: as `transcript_pairs`.
    """

    frames: list[int] = field(default_factory=list)
    nats: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    sums: dict[str, Tensor] = field(default_factory=dict)
    squares: dict[str, Tensor] = field(default_factory=dict)
    means: dict[str, list[Tensor]] = field(default_factory=lambda: defaultdict(list))
    labels: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    answers: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    transcripts: list[dict[str, str]] = field(default_factory=list)

    @torch.no_grad()
    def add(self, batch: FrameBatch, trained: Trained, label_names: Mapping[str, Sequence[str]]) -> None:
        """Listen to a batch; classifiers answer where the speech has their label with the same classes."""
        self.frames += batch.segments.lengths.tolist()
        self.means["hidden"].append(segment_mean(batch.features.float().mean(1), batch.segments))
        stages: dict[str, Stage1VIB | Stage2ConditionalVIB] = {"stage1": trained.stage1}
        stages |= {f"stage2_{task}": stage for task, stage in trained.stage2.items()}
        for name, stage in stages.items():
            posterior = stage.latent_encoder(batch.features, batch.segments)
            z = posterior.mean.double()
            self.nats[name] += segment_sum(posterior.kl().double().sum(1), batch.segments).tolist()
            self.sums[name] = self.sums.get(name, 0) + z.sum(0)
            self.squares[name] = self.squares.get(name, 0) + z.square().sum(0)
            self.means[representation(name)].append(segment_mean(posterior.mean, batch.segments))
            logits = stage.logits(batch, posterior.mean)
            if isinstance(stage, Stage1VIB):
                self.transcripts += transcript_pairs(batch, logits, stage.tokenizer)
            elif label_names.get(stage.task) == stage.classes:
                self.answers[name] += logits.argmax(-1).tolist()
        for name, probe in trained.probes.items():
            for label, logits in probe.logits(batch).items():
                if label in label_names and label_names[label] == probe.inputs["label_names"][label]:
                    self.answers[f"probe.{name}.{label}"] += logits.argmax(-1).tolist()
        for label, classes in batch.labels.items():
            self.labels[label] += classes.tolist()

    def variance(self, stage: str) -> float:
        """Of the latent's means over all frames, summed over dimensions."""
        mean = self.sums[stage] / sum(self.frames)
        return float((self.squares[stage] / sum(self.frames) - mean.square()).sum())


def representation(stage: str) -> str:
    """'stage1' -> 'textual'; 'stage2_TASK' -> 'acoustic_TASK'."""
    return "textual" if stage == "stage1" else stage.replace("stage2_", "acoustic_", 1)


def listen(batches: Iterable[FrameBatch], condition: Condition, trained: Mapping[int, Trained]) -> dict[int, Heard]:
    """What every seed makes of the batches, each of which is made once."""
    heard = {seed: Heard() for seed in trained}
    for batch in batches:
        for seed, stages in trained.items():
            heard[seed].add(batch, stages, condition.label_names)
    return heard


def figures_of(
    probe: Heard, test: Heard, label_names: Mapping[str, Sequence[str]], trained: Trained, frame_rate: float
) -> dict[str, float]:
    """The figures of one seed on one kind of speech.

    `stage1.wer`; of each stage `.rate_bits_per_second`, `.variance` of its latent's means (no unit: the prior has 1
    for each dimension) and, of Stage 2, `.accuracy` and its kin; `probe.REP.LABEL.*` of the run's own probes, which
    were trained on clean speech; and `reader.REP.LABEL.*` of linear discriminant analysis fitted on this speech
    (`linear_reader`): an attacker who knows the condition. Do not read a low figure of `probe` as safety where that
    of `reader` is high.

    Args:
        probe: speech of the split `probe`, on which readers are fitted.
        test: of the split `test`, on which everything is measured.
        label_names: {label: classes} of this speech.
        trained: what listened.
        frame_rate: frames per second.
    """
    figures: dict[str, float] = {}
    if test.transcripts:
        pairs = test.transcripts
        figures |= transcription_figures("stage1", [p["reference"] for p in pairs], [p["hypothesis"] for p in pairs])
    frames = np.array(test.frames, dtype=np.float64)
    for stage, nats in test.nats.items():
        rate = f"{stage}.rate_bits_per_second"
        bounds = bootstrap_ratio(np.array(nats), frames)
        figures[rate] = bits_per_second(sum(nats) / frames.sum(), frame_rate)
        figures |= {
            f"{rate}.{end}": bits_per_second(b, frame_rate)
            for end, b in zip(("ci_low", "ci_high"), bounds, strict=True)
        }
        figures[f"{stage}.variance"] = test.variance(stage)
    for name, answers in test.answers.items():
        label = name.removeprefix("stage2_") if name.startswith("stage2_") else name.split(".")[-1]
        counts = trained.counts["probe" if name.startswith("probe.") else "train"][label]
        figures |= _classified(name, test.labels[label], answers, counts)
    for label, classes in label_names.items():
        for rep in test.means:
            figures |= _read(f"reader.{rep}.{label}", probe, test, rep, label, len(classes))
    return figures


def collapsed(figures: Mapping[str, float], clean: Mapping[str, float]) -> list[str]:
    """The stages whose latent no longer says anything: rate or variance nearly gone beside clean speech.

    A rate of exactly zero is that of a deterministic bottleneck, of which the variance alone tells. The alarm is about
    what is sent, not whether it is right: noise may also raise the rate while the words are lost.
    """
    fallen = []
    for name in (n.removesuffix(".variance") for n in figures if n.endswith(".variance")):
        rate, before = (each[f"{name}.rate_bits_per_second"] for each in (figures, clean))
        silent = before > 0 and rate < max(RATE_NEAR_ZERO, COLLAPSE_SHARE * before)
        if silent or figures[f"{name}.variance"] < COLLAPSE_SHARE * clean[f"{name}.variance"]:
            fallen.append(name)
    return fallen


def _read(name: str, probe: Heard, test: Heard, rep: str, label: str, classes: int) -> dict[str, float]:
    means = {split: torch.cat(heard.means[rep]).double().numpy() for split, heard in (("probe", probe), ("test", test))}
    known = np.array(probe.labels[label]) >= 0
    labels = np.array(probe.labels[label])[known]
    counts = np.bincount(labels, minlength=classes)
    if (counts > 0).sum() < 2:
        return {}
    one_hot: Array = np.eye(classes)[labels]
    reader = fit_classes(moments(means["probe"][known], one_hot), means["probe"].shape[1])
    return _classified(name, test.labels[label], reader(means["test"]).argmax(1).tolist(), counts.tolist())


def _classified(name: str, targets: Sequence[int], answers: Sequence[int], counts: Sequence[int]) -> dict[str, float]:
    pairs = [(target, answer) for target, answer in zip(targets, answers, strict=True) if target >= 0]
    if not pairs:
        return {}
    return classification_figures(name, [t for t, _ in pairs], [a for _, a in pairs], counts)

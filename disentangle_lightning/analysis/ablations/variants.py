"""What the protocol is compared with: each variant as the trainings that make its two latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.settings import AblationsSettings
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.tasks.no_bottleneck import NO_BOTTLENECK
from disentangle_lightning.tasks.stacked import StackedVIB


@dataclass(frozen=True)
class Trained:
    """A stage: its checkpoint, and the figures of its test, their beginning left out (`wer`, `TASK.accuracy`, ...)."""

    checkpoint: Path
    figures: dict[str, float]


@dataclass(frozen=True)
class Variant:
    """The latents that a variant has for words and for the task; either may be missing."""

    textual: Trained | None
    acoustic: Trained | None


class Trainings:
    """The trainings of one seed, each done once, however many variants stand on it.

    Args:
        run, settings: those of the analysis.
        folder: where the trainings of this seed go.
        seed: of all of them.
        task: what Stage 2 learns.
        other: another label, for several tasks and for a third stage.
    """

    def __init__(
        self, run: TrainedRun, settings: AblationsSettings, folder: Path, seed: int, task: str, other: str | None
    ) -> None:
        self.run, self.settings, self.folder, self.seed = run, settings, folder, seed
        self.task, self.other = task, other

    def stage1(self, name: str = "stage1", trainer: Mapping[str, Any] | None = None, **model: Any) -> Trained:
        """A Stage 1 with other arguments than the run's."""
        fields = {f"model.init_args.{key}": value for key, value in model.items()}
        fields |= {f"trainer.{key}": value for key, value in (trainer or {}).items()}
        return self._trained(name, "stage1", [], fields, "stage1.")

    def stage2(self, stage1: Trained, name: str = "stage2", **model: Any) -> Trained:
        """A Stage 2 for the task with other arguments than the run's."""
        model |= {"task": self.task, "stage1": str(stage1.checkpoint)}
        fields = {f"model.init_args.{key}": value for key, value in model.items()}
        trained = self._trained(name, "stage2", [self.task], fields, f"stage2_{self.task}.")
        accuracy = {f"{self.task}.{k}": v for k, v in trained.figures.items() if k.startswith("accuracy")}
        return Trained(trained.checkpoint, trained.figures | accuracy)

    def stacked(self, name: str, tasks: Sequence[str], given: Sequence[Trained]) -> Trained:
        """Tasks on frozen stages, with the settings of Stage 1 for transcription and of Stage 2 for labels.

        What Stage 1 is told to hide is not hidden here.
        """
        kind = "stage1" if CTC_TARGET in tasks else "stage2"
        own = getattr(self.run.settings, kind).set["model"].get("init_args", {})
        arguments = {name: value for name, value in own.items() if name not in ("hide", "hide_weight")}
        arguments |= {"tasks": list(tasks), "given": [str(stage.checkpoint) for stage in given]}
        class_path = f"{StackedVIB.__module__}.{StackedVIB.__qualname__}"
        fields = {"model": {"class_path": class_path, "init_args": arguments}}
        trained = self._trained(name, kind, [task for task in tasks if task != CTC_TARGET], fields, "stacked.")
        words = {k.removeprefix("ctc."): v for k, v in trained.figures.items() if k.startswith("ctc.")}
        return Trained(trained.checkpoint, trained.figures | words)

    def probe(self, name: str, stage: Trained) -> dict[str, float]:
        """`LABEL.accuracy`, `.leakage` and `ctc.wer` of probes on the latent of a stage."""
        labels = self.run.labels
        model = {"representation": "latent", "source": str(stage.checkpoint), "targets": [CTC_TARGET, *labels]}
        fields = {f"model.init_args.{key}": value for key, value in model.items()}
        return self._trained(name, "probe", labels, fields, "probe.latent.").figures

    def full(self) -> Variant:
        """The protocol as it is."""
        stage1 = self.stage1()
        return Variant(stage1, self.stage2(stage1))

    def one_stage(self) -> Trained:
        """A bottleneck for the task that is given nothing."""
        return self.stacked("one_stage", [self.task], [])

    def _trained(
        self, name: str, kind: str, labels: Sequence[str], fields: Mapping[str, Any], beginning: str
    ) -> Trained:
        epochs = {"trainer.max_epochs": self.run.epochs(kind, self.settings.share_of_epochs)}
        best, figures = self.run.fit(self.folder / name, self.seed, kind, labels, epochs | dict(fields))
        return Trained(best, {name.removeprefix(beginning): value for name, value in figures.items()})


def _no_bottleneck(t: Trainings) -> Variant:
    stage1 = t.stage1("no_bottleneck_stage1", **NO_BOTTLENECK)
    return Variant(stage1, t.stage2(stage1, "no_bottleneck_stage2", **NO_BOTTLENECK))


def _random_condition(t: Trainings) -> Variant:
    one_step = {"max_epochs": 1, "limit_train_batches": 1}
    stage1 = t.stage1("random_condition_stage1", one_step, learning_rate=0.0)
    return Variant(stage1, t.stage2(stage1, "random_condition_stage2"))


def _other_order(t: Trainings) -> Variant:
    first = t.one_stage()
    return Variant(t.stacked("other_order", [CTC_TARGET], [first]), first)


def _several_tasks(t: Trainings) -> Variant:
    full = t.full()
    assert full.textual is not None
    return Variant(full.textual, t.stacked("several_tasks", [t.task, str(t.other)], [full.textual]))


def _third_stage(t: Trainings) -> Variant:
    full = t.full()
    assert full.textual is not None
    assert full.acoustic is not None
    return Variant(None, t.stacked("third_stage", [str(t.other)], [full.textual, full.acoustic]))


def _small_latents(t: Trainings) -> Variant:
    dim = t.settings.latent_dim
    stage1 = t.stage1("small_latents_stage1", latent_dim=dim)
    return Variant(stage1, t.stage2(stage1, "small_latents_stage2", latent_dim=dim))


def _high_beta(t: Trainings) -> Variant:
    stage1 = t.stage1("high_beta_stage1", **_dearer(t, "stage1"))
    return Variant(stage1, t.stage2(stage1, "high_beta_stage2", **_dearer(t, "stage2")))


def _dearer(t: Trainings, kind: str) -> dict[str, Any]:
    """A higher beta, or where beta finds itself, a lower rate or a greater distance."""
    arguments = getattr(t.run.settings, kind).set["model"]["init_args"]
    if arguments.get("schedule") == "rate":
        return {"rate": arguments["rate"] / t.settings.beta_factor}
    if arguments.get("schedule") == "within":
        return {"distance": arguments["distance"] * t.settings.beta_factor}
    return {"beta": arguments["beta"] * t.settings.beta_factor}


VARIANTS: dict[str, tuple[str, Callable[[Trainings], Variant]]] = {
    "full": ("two stages, the protocol", Trainings.full),
    "one_stage": ("one stage alone: z_acoustic given nothing", lambda t: Variant(None, t.one_stage())),
    "no_bottleneck": ("no bottleneck in either stage", _no_bottleneck),
    "random_condition": ("a condition that knows nothing", _random_condition),
    "other_order": ("other order: the task, then words given it", _other_order),
    "several_tasks": ("one Stage 2 for TASK and OTHER", _several_tasks),
    "third_stage": ("a third stage, for OTHER given both latents", _third_stage),
    "small_latents": ("latents of DIM dimensions", _small_latents),
    "high_beta": ("both bottlenecks FACTOR times dearer", _high_beta),
}
"""Their headings and trainings, in the order of the table."""

NEEDS_ANOTHER_LABEL = ("several_tasks", "third_stage")

"""A finished run of the pipeline as its analyses see it: data, stages, latents, and trainings beside them."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from disentangle_lightning.analysis.latents import SplitLatents, collect
from disentangle_lightning.corpus.manifest import Utterance, read_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.features.layout import COMPLETE, HEADER, read_json
from disentangle_lightning.settings import PipelineSettings, StageSettings
from disentangle_lightning.settings_files import read_settings
from disentangle_lightning.tasks.base import freeze, load_task
from disentangle_lightning.tasks.given_stage1 import GivenStage1, common_alphabet
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.tasks.stage_training import StageTraining, read_layers
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder


class DoesNotApply(UserError):
    """The run has nothing that an analysis could be made of, such as a Stage 2 or a label."""


class TrainedRun:
    """A run directory of the pipeline, every training of which is done.

    Args:
        path: the run directory.

    Attributes:
        settings: those of the run, the files of its stages put in.
        seeds, tasks: as in the settings, tasks without repetition.
        labels: tasks, then the labels that were probed beside them.
        manifest, store: the files of its data.

    Raises:
        UserError: it is no run directory, or a training in it is not done yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        config = self.path / "config.yaml"
        if not config.is_file():
            raise UserError(
                f"{self.path} has no config.yaml, so it is no run directory of the pipeline; name a folder that "
                "`pipeline` wrote, such as runs/demo"
            )
        self.settings = read_settings(PipelineSettings, config, [])
        self.seeds = self.settings.seeds
        self.tasks = list(dict.fromkeys(self.settings.tasks or []))
        self.labels = list(dict.fromkeys([*self.tasks, *self.settings.labels]))
        self.manifest = self.path / "manifest.jsonl"
        self.store = self.path / "features"
        steps = ["stage1", *(f"stage2_{task}" for task in self.tasks)]
        for file in [
            self.manifest,
            self.store / COMPLETE,
            *(self.path / f"seed{seed}" / step / "summary.json" for seed in self.seeds for step in steps),
        ]:
            if not file.is_file():
                raise UserError(
                    f"{file} does not exist, so the run is not finished; run "
                    f"`python -m disentangle_lightning pipeline --config {config}` first"
                )
        given = [GivenStage1.read(self.checkpoint(s, "stage1")) for s in self.seeds if self._is_given(s)]
        self.training = StageTraining(self.manifest, self.store, common_alphabet(self.settings.alphabet, given))

    def checkpoint(self, seed: int, step: str) -> Path:
        """The best checkpoint of `stage1`, `stage2_TASK` or `probe_NAME`."""
        return self.path / f"seed{seed}" / step / "checkpoints" / "best.ckpt"

    def control(self, seed: int, step: str) -> dict[str, str]:
        """What a stage that stays within a distance of its control is told of it: {field: the run's}; or nothing."""
        folder = self.path / f"seed{seed}" / "control" / step
        return {"control": str(folder)} if folder.is_dir() else {}

    @functools.cached_property
    def utterances(self) -> dict[str, Utterance]:
        """Those of the manifest by their ids."""
        return {u.id: u for u in read_manifest(self.manifest)}

    @functools.cached_property
    def header(self) -> dict[str, Any]:
        """Of the feature store: encoder, layers, dim, frame_rate..."""
        return read_json(self.store / HEADER)

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return float(self.header["frame_rate"])

    @functools.cached_property
    def encoder(self) -> FrozenSpeechEncoder:
        """The speech encoder that made the features, on the CPU."""
        made = self.settings.encode
        return load_encoder(made.encoder, made.revision, made.precision, made.window_seconds)

    @functools.cache  # noqa: B019  # one run a process
    def stage1(self, seed: int) -> Stage1VIB:
        """The trained Stage 1, frozen, in evaluation mode."""
        stage = load_task(self.checkpoint(seed, "stage1"), Stage1VIB)
        freeze(stage)
        return stage

    @functools.cache  # noqa: B019
    def stage2(self, seed: int, task: str) -> Stage2ConditionalVIB:
        """The trained Stage 2 of a task, frozen, in evaluation mode."""
        stage = load_task(self.checkpoint(seed, f"stage2_{task}"), Stage2ConditionalVIB)
        freeze(stage)
        return stage

    def data(
        self, labels: Sequence[str] | None = None, train_split: str = "probe", **arguments: Any
    ) -> FrameFeatureDataModule:
        """The data module of the run; its training split is the probes', which no stage has seen.

        Args:
            labels: on each batch; None takes those of the run.
            train_split: `probe` or `train`.
            arguments: further ones of `FrameFeatureDataModule`, or others.
        """
        defaults = {
            "manifest": str(self.manifest),
            "store": str(self.store),
            "labels": list(self.labels if labels is None else labels),
            "train_split": train_split,
            "layers": read_layers(self.settings.probe),
            "alphabet": self.training.alphabet,
            "verify": False,
        }
        return FrameFeatureDataModule(**defaults | arguments)

    @functools.cache  # noqa: B019
    def latents(self, seed: int, split: str) -> SplitLatents:
        """Both latents, the averaged hidden states and the labels of every utterance of `probe`, `dev` or `test`.

        Stages are trained on `train` and selected on `dev`; what is asked of them is fitted on `probe` and measured
        on `test`.
        """
        acoustic = {task: self.stage2(seed, task) for task in self.tasks}
        return collect(self.data(), split, self.stage1(seed), acoustic)

    def epochs(self, kind: str, share: float) -> int:
        """So many of the epochs that a `stage1`, `stage2` or `probe` of the run has, rounded up.

        Rounded down, a stage of five epochs would come to one with a quarter of them, and hardly begin to learn.

        Raises:
            UserError: the share is not above zero.
        """
        if not share > 0:
            raise UserError(f"field 'share_of_epochs' is {share}; it must be above 0, and is 1 for as long as the run")
        stage: StageSettings = getattr(self.settings, kind)
        epochs: int = stage.set["trainer"]["max_epochs"]
        return math.ceil(round(share * epochs, 6))  # 0.07 * 100 is a little more than 7

    def fit(
        self,
        folder: Path,
        seed: int,
        kind: str,
        labels: Sequence[str] = (),
        fields: Mapping[str, Any] | None = None,
    ) -> tuple[Path, dict[str, float]]:
        """Train a further stage or probe with the settings of the run's own; goes on where it stopped.

        It is no run of its own to W&B, and does not compare the checksums of features that the run has compared.

        Args:
            folder: its run directory, inside the folder of the analysis.
            seed: of weights, order and noise.
            kind: `stage1`, `stage2` or `probe`: whose settings it has.
            labels: what the data put on each batch.
            fields: {dotted name: value} over those settings, such as {"trainer.max_epochs": 5}.

        Returns:
            its best checkpoint, and the figures of its test.

        Raises:
            UserError: as `fit`; or the run's Stage 1 was given to it, so that it has no settings to train one.
        """
        stage: StageSettings = getattr(self.settings, kind)
        if "class_path" not in stage.set.get("model", {}):
            raise UserError(
                f"{self.path}/config.yaml has no settings to train {kind} with; add {kind}.config to the run"
            )
        quiet: dict[str, Any] = {"trainer.logger": False, "data.verify": False}
        best = self.training.fit(folder, seed, stage, labels, quiet | dict(fields or {}))
        figures: dict[str, float] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return best, figures

    def probed(self, seed: int) -> dict[str, dict[str, Any]]:
        """What a probe of each representation is told of it: {name: {field of `Probe`: value}}."""
        sources: dict[str, dict[str, Any]] = {
            "hidden": {"representation": "hidden"},
            "textual": {"representation": "textual", "source": str(self.checkpoint(seed, "stage1"))},
        }
        for task in self.tasks:
            source = str(self.checkpoint(seed, f"stage2_{task}"))
            sources[f"acoustic_{task}"] = {"representation": "acoustic", "source": source}
        return sources

    def _is_given(self, seed: int) -> bool:
        return self.settings.stage1.checkpoint is not None and self.checkpoint(seed, "stage1").is_file()

"""The whole protocol, from audio to report, as steps that are done once.

    RUN_DIR/manifest.jsonl, corpus.json      the corpus with its splits; praat.jsonl, how it sounds, if asked for
    RUN_DIR/features/                        the encoder's frames
    RUN_DIR/seedN/stage1/                    one folder per training: config, checkpoints, metrics, results
    RUN_DIR/seedN/stage2_TASK/
    RUN_DIR/seedN/control/                   the same stages without a bottleneck, for the schedule "within"
    RUN_DIR/seedN/probe_hidden/, probe_textual/, probe_acoustic_TASK/
    RUN_DIR/seedN/latent_map.json
    RUN_DIR/model/                           the first seed's stages as one DisentangledEncoder
    RUN_DIR/summary.json, provenance.json, report.html

Without tasks there is no Stage 2, and nothing that is made of one. A Stage 1 that was trained before is copied and
tested here in place of being trained. A store that is named stands elsewhere; features/ then leads there.

Each step ends by writing its result, so a step whose result is there is skipped. A training that was interrupted goes
on from its last checkpoint; every other step is short, or resumes by itself. What a label or a transcription must have
to be learnt is checked with the corpus, before anything expensive is done.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from rich.console import Console

from disentangle_lightning.analysis.progress import track
from disentangle_lightning.corpus.checks import describe
from disentangle_lightning.corpus.manifest import read_manifest, write_manifest
from disentangle_lightning.corpus.numbers import read_numbers
from disentangle_lightning.corpus.prepare import prepare
from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import COMPLETE, HEADER, check_header, read_json, read_skipped
from disentangle_lightning.features.targets import check_learnable
from disentangle_lightning.provenance import provenance
from disentangle_lightning.settings import PipelineSettings, StageSettings
from disentangle_lightning.settings_files import (
    escape_interpolations,
    first_difference,
    read_settings,
    write_yaml,
)
from disentangle_lightning.summary import aggregate
from disentangle_lightning.tasks.base import write_json
from disentangle_lightning.tasks.given_stage1 import GivenStage1, common_alphabet, origin_figures
from disentangle_lightning.tasks.stage_training import StageTraining, hidden_labels, read_layers

console = Console(stderr=True)

_MADE_WITH = {
    "encode": "features",
    "stage1": "seed*/**/stage1",
    "stage2": "seed*/**/stage2_*",
    "probe": "seed*/probe_*",
}
"""What the run directory holds that was made with a field; with the fields not listed here, manifest.jsonl."""


def run_pipeline(settings: PipelineSettings) -> Path:
    """Run every step that is not done yet; returns the report page.

    Raises:
        UserError: bad settings or input, or a run directory that holds a run with other settings.
    """
    pipeline = Pipeline(settings)
    return pipeline.run()


class Pipeline:
    """One run of the protocol in one run directory."""

    def __init__(self, settings: PipelineSettings) -> None:
        if settings.tasks is None:
            raise UserError(
                "field 'tasks' is missing; name the label that Stage 2 should learn, such as [speaker], or [] for "
                "Stage 1 alone"
            )
        if not settings.seeds or len(set(settings.seeds)) != len(settings.seeds) or min(settings.seeds) < 0:
            raise UserError(f"field 'seeds' is {settings.seeds}; give one or more different whole numbers from 0")
        if settings.encode.shard is not None:
            raise UserError(
                "field 'encode.shard' has no place in a pipeline; encode the parts with the verb encode, and name "
                "their store as encode.store, or leave it out"
            )
        self.settings = settings
        self.tasks = list(dict.fromkeys(settings.tasks))
        self.labels = list(dict.fromkeys([*settings.tasks, *settings.labels]))
        for label in self.labels:
            if label == "ctc" or not re.fullmatch(r"[^./\\\x00-\x1f]+", label):
                raise UserError(
                    f"label '{label}' cannot be learnt: it becomes part of the names of files and figures, where "
                    "'ctc' is transcription and '.', '/' and '\\' separate names; rename it in the corpus"
                )
        if unused := [name for name in settings.quartiles if name not in self.labels]:
            raise UserError(f"field 'quartiles' names '{unused[0]}', which is in neither field 'tasks' nor 'labels'")
        self.run_dir = Path(settings.run_dir)
        self.manifest = self.run_dir / "manifest.jsonl"
        self.store = self.run_dir / "features"
        _check_stages(settings, bool(self.tasks))
        self.given = {seed: GivenStage1.read(path) for seed in settings.seeds if (path := self._given_path(seed))}
        self.alphabet = common_alphabet(settings.alphabet, list(self.given.values()))
        self.training = StageTraining(self.manifest, self.store, self.alphabet)
        self.seconds: dict[str, float] = {}
        self.started = datetime.now(UTC)

    def run(self) -> Path:
        """All steps in order."""
        if not (self.store / COMPLETE).is_file():
            self._check_settings()
        self._claim_run_dir()
        self._step("corpus", self.manifest, self._corpus)
        self._step("encode", self.store / COMPLETE, self._encode)
        self._list_skipped()
        for seed in self.settings.seeds:
            self._seed(seed)
        first = self.run_dir / f"seed{self.settings.seeds[0]}"
        self._step("model", self.run_dir / "model" / "config.json", lambda: self._model(first))
        self._duration()
        return self._finish()

    def _check_settings(self) -> None:
        """Refuse a mistyped field of a training now, and not when everything is encoded."""
        stages = {"stage1": self.settings.stage1, "stage2": self.settings.stage2, "probe": self.settings.probe}
        decided: dict[str, dict[str, Any]] = {"stage2": {"task": "", "stage1": ""}, "probe": {"targets": []}}
        for name, stage in stages.items():
            if "class_path" in stage.set.get("model", {}):
                fields = {f"model.init_args.{field}": value for field, value in decided.get(name, {}).items()}
                try:
                    self.training.check(stage, fields)
                except UserError as error:
                    raise UserError(f"{name}: {error}") from None

    def _seed(self, seed: int) -> None:
        folder = self.run_dir / f"seed{seed}"
        stage1 = self._stage1(folder / "stage1", seed)
        stage2 = {
            task: self._train(
                folder / f"stage2_{task}",
                seed,
                self.settings.stage2,
                labels=[task],
                model={"task": task, "stage1": str(stage1)},
            )
            for task in self.tasks
        }
        sources: dict[str, dict[str, Any]] = {
            "hidden": {"representation": "hidden"},
            "textual": {"representation": "textual", "source": str(stage1)},
        }
        for task, checkpoint in stage2.items():
            sources[f"acoustic_{task}"] = {"representation": "acoustic", "source": str(checkpoint)}
        for name, source in sources.items():
            model = {**source, "targets": [*self._transcription, *self.labels]}
            self._train(folder / f"probe_{name}", seed, self.settings.probe, labels=self.labels, model=model)
        if stage2:
            file = folder / "latent_map.json"
            self._step(f"seed{seed}/latent_map", file, lambda: self._latent_map(stage2, file))

    def _stage1(self, folder: Path, seed: int) -> Path:
        """Stage 1, trained here, or the given one tested here; returns its checkpoint."""
        given = self.given.get(seed)
        if given is None:
            return self._train(folder, seed, self.settings.stage1)

        def take() -> None:
            known = given.check_unheard(read_manifest(self.manifest))
            given.check_features(read_json(self.store / HEADER), read_layers(self.settings.stage1))
            given.test(folder, self.training.settings(folder, seed, self.settings.stage1), known)

        self._step(f"{folder.parent.name}/{folder.name}", folder / "summary.json", take)
        return folder / "checkpoints" / "best.ckpt"

    def _given_path(self, seed: int) -> Path | None:
        """The checkpoint of a Stage 1 that was trained before: the run's own copy, once there is one."""
        named = self.settings.stage1.checkpoint
        if named is None:
            return None
        copy = self.run_dir / f"seed{seed}" / "stage1" / "checkpoints" / "best.ckpt"
        return copy if copy.is_file() else Path(named.replace("{seed}", str(seed)))

    @cached_property
    def _transcription(self) -> list[str]:
        """The probes' target `ctc`, unless there is nothing to learn it from, which only a given Stage 1 allows."""
        transcribed = {u.split for u in read_manifest(self.manifest) if u.transcription}
        return ["ctc"] if {"probe", "dev", "test"} <= transcribed else []

    def _train(
        self,
        folder: Path,
        seed: int,
        stage: StageSettings,
        labels: list[str] | None = None,
        model: dict[str, Any] | None = None,
    ) -> Path:
        """One `fit` with the stage's own settings and what the pipeline decides; returns its best checkpoint."""

        def fit() -> None:
            fields = {f"model.init_args.{name}": value for name, value in (model or {}).items()}
            self.training.fit(folder, seed, stage, labels or [], fields)

        self._step(f"{folder.parent.name}/{folder.name}", folder / "summary.json", fit)
        return folder / "checkpoints" / "best.ckpt"

    def _corpus(self) -> None:
        found = make_reader(self.settings.corpus).read()
        hidden = [] if self.given else hidden_labels(self.settings.stage1.set)
        check = partial(
            check_learnable, tasks=self.tasks, labels=self.labels, transcribed=not self.given, hidden=hidden
        )
        file = self.run_dir / "praat.jsonl"
        numbers = read_numbers(found.utterances, self.settings.quartiles, file, partial(track, description="Praat"))
        corpus, tokenizer = prepare(found, self.settings.splits, self.alphabet, check, numbers)
        check(corpus.utterances)
        for given in self.given.values():
            given.check_unheard(corpus.utterances)
        facts = describe(corpus, tokenizer) | {"quartiles": numbers.describe(corpus.utterances)}
        write_json(self.run_dir / "corpus.json", facts)
        write_manifest(self.manifest, corpus.utterances)

    def _encode(self) -> None:
        from disentangle_lightning.features.job import expected_header, run_encode

        shared = Path(self.settings.encode.store) if self.settings.encode.store else None
        store = shared or self.store
        settings = replace(self.settings.encode, manifest=str(self.manifest), store=str(store))
        if self.given or shared:
            header = expected_header(settings)
            for given in self.given.values():
                given.check_features(header, read_layers(self.settings.stage1))
            if (store / COMPLETE).is_file():  # other runs may be looking at it too, so nothing there is locked
                check_header(store, read_json(store / HEADER), header)
        if not (store / COMPLETE).is_file():
            run_encode(settings)
        if shared:
            self.store.unlink(missing_ok=True)  # a link that leads nowhere any more
            self.store.symlink_to(shared.resolve(), target_is_directory=True)

    def _list_skipped(self) -> None:
        """Add what encoding skipped to corpus.json; not part of `encode`, which may end just before."""
        facts = json.loads((self.run_dir / "corpus.json").read_text(encoding="utf-8"))
        known = {skip["id"] for skip in facts["skipped"]}
        if new := [asdict(skip) for skip in read_skipped(self.store) if skip.id not in known]:
            write_json(self.run_dir / "corpus.json", facts | {"skipped": facts["skipped"] + new})

    def _data(self) -> Any:
        """The data of the probes, for questions that need no training of a stage."""
        from disentangle_lightning.features.datamodule import FrameFeatureDataModule

        return FrameFeatureDataModule(
            str(self.manifest),
            str(self.store),
            self.labels,
            train_split="probe",
            layers=read_layers(self.settings.probe),
            alphabet=self.alphabet,
        )

    def _latent_map(self, stage2: dict[str, Path], file: Path) -> None:
        from disentangle_lightning.analysis.latent_map import write_latent_map

        write_latent_map(self._data(), stage2, file)

    def _duration(self) -> None:
        file = self.run_dir / "duration.json"

        def measure() -> None:
            from disentangle_lightning.analysis.duration import duration_figures

            write_json(file, duration_figures(self._data()))

        self._step("duration", file, measure)

    def _model(self, seed_folder: Path) -> None:
        from disentangle_lightning.encoder import DisentangledEncoder

        steps = [f"stage2_{task}" for task in self.tasks] or ["stage1"]
        checkpoints = [seed_folder / step / "checkpoints" / "best.ckpt" for step in steps]
        DisentangledEncoder.from_checkpoints(checkpoints).save_pretrained(self.run_dir / "model")

    def _finish(self) -> Path:
        from disentangle_lightning.report.page import write_report
        from disentangle_lightning.report.tables import print_report

        per_seed = [self._seed_figures(self.run_dir / f"seed{seed}") for seed in self.settings.seeds]
        figures = aggregate(per_seed) | json.loads((self.run_dir / "duration.json").read_text())
        write_json(self.run_dir / "summary.json", figures)
        page = write_report(self.run_dir)
        print_report(self.run_dir, Console())
        return page

    def _seed_figures(self, folder: Path) -> dict[str, float]:
        figures: dict[str, float] = {}
        for file in sorted(folder.glob("*/summary.json")):
            figures |= json.loads(file.read_text())
        for file in sorted(folder.glob("control/*/summary.json")):
            figures |= {f"control.{name}": value for name, value in json.loads(file.read_text()).items()}
        return figures | origin_figures(folder / "stage1")

    def _step(self, name: str, result: Path, work: Callable[[], None]) -> None:
        if result.exists():
            console.print(f"[dim]{name}: done before[/dim]")
            return
        console.print(f"[bold]{name}[/bold] ...")
        begun = time.monotonic()
        work()
        self.seconds[name] = round(time.monotonic() - begun, 1)
        facts = provenance(self.run_dir, self.started, self.seconds)
        write_json(self.run_dir / "provenance.json", facts)
        console.print(f"{name}: {self.seconds[name]:.1f} s")

    def _claim_run_dir(self) -> None:
        """Write config.yaml, or refuse a directory that holds results of other settings; seeds may be added."""
        file = self.run_dir / "config.yaml"
        now = asdict(self.settings)
        if file.is_file():
            before = asdict(read_settings(PipelineSettings, file, []))
            for name in now:
                if name in ("seeds", "run_dir") or not any(self.run_dir.glob(_MADE_WITH.get(name, "manifest.jsonl"))):
                    continue
                if difference := first_difference(before[name], now[name], name):
                    raise UserError(
                        f"run_dir {self.run_dir} holds a run with {difference}; "
                        "name another --run_dir, or delete this one"
                    )
        trained = {folder.name for folder in self.run_dir.glob("seed*")}
        if dropped := trained - {f"seed{seed}" for seed in self.settings.seeds}:
            raise UserError(
                f"run_dir {self.run_dir} holds {min(dropped)}, which field 'seeds' {self.settings.seeds} leaves out; "
                "seeds may be added, but none taken away"
            )
        write_yaml(file, escape_interpolations(now))


def _check_stages(settings: PipelineSettings, stage2: bool) -> None:
    """Refuse a training that does not say what is trained."""
    needed = {"stage1": settings.stage1.checkpoint is None, "stage2": stage2, "probe": True}
    for name, is_needed in needed.items():
        if is_needed and "class_path" not in getattr(settings, name).set.get("model", {}):
            raise UserError(
                f"field '{name}.config' is missing; name a settings file, such as experiments/{name}/default.yaml"
            )

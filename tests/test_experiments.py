"""Every settings file of experiments/ is one that its verb takes, down to the last field."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_pipeline import EXPERIMENTS, finished_run

from disentangle_lightning.corpus.readers import make_reader
from disentangle_lightning.settings import EncodeSettings, PipelineSettings
from disentangle_lightning.settings_files import read_settings
from disentangle_lightning.tasks.training import train

PIPELINES = sorted(EXPERIMENTS.glob("*.yaml"))
ENCODERS = sorted((EXPERIMENTS / "encode").glob("*.yaml"))
STAGES = sorted(file for folder in ("stage1", "stage2", "probe") for file in (EXPERIMENTS / folder).glob("*.yaml"))


def name_of(file: Path) -> str:
    return str(file.relative_to(EXPERIMENTS))


def class_paths(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        if isinstance(tree.get("class_path"), str):
            yield tree["class_path"]
        for value in tree.values():
            yield from class_paths(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from class_paths(value)


def test_no_settings_file_is_left_out() -> None:
    checked = {*PIPELINES, *ENCODERS, *STAGES, EXPERIMENTS / "embedded_encoder" / "config.yaml"}
    assert set(EXPERIMENTS.rglob("*.yaml")) == checked
    assert {name_of(file) for file in PIPELINES} >= {"demo.yaml", "real_speech.yaml"}
    assert {"default.yaml", "paper.yaml"} <= {file.name for file in STAGES if file.parent.name == "stage1"}


@pytest.mark.parametrize("file", ENCODERS, ids=name_of)
def test_encode_takes_it_and_the_command_in_its_first_line_names_it(file: Path) -> None:
    settings = read_settings(EncodeSettings, file, ["--manifest", "m", "--store", "s"])
    assert settings.encoder
    assert settings.precision in ("fp32", "bf16")
    assert settings.dtype in ("float16", "bfloat16", "float32")
    assert file.read_text().startswith(f"# encode --config experiments/encode/{file.name} ")


@pytest.mark.parametrize("file", PIPELINES, ids=name_of)
def test_pipeline_takes_it(file: Path) -> None:
    open_fields = re.findall(r"^\s+(\w+): \?\?\?", file.read_text(), re.MULTILINE)
    fill = {"folder": "corpus.init_args.folder", "encoder": "encode.encoder"}
    overrides = [part for field in open_fields for part in (f"--{fill[field]}", "/somewhere")]
    settings = read_settings(PipelineSettings, file, overrides)
    make_reader(settings.corpus)
    assert settings.tasks
    for stage, kind in ((settings.stage1, "Stage1VIB"), (settings.stage2, "Stage2"), (settings.probe, "Probe")):
        assert kind in stage.set["model"]["class_path"]
        assert stage.set["trainer"]["logger"] is False, "a pipeline needs no account"


@pytest.mark.parametrize("file", STAGES, ids=name_of)
def test_fit_takes_it_and_every_field_is_one_that_the_class_has(
    file: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = finished_run(tmp_path_factory)
    stage1 = run / "seed0" / "stage1" / "checkpoints" / "best.ckpt"
    named_by_hand = {
        "stage1": [],
        "stage2": [
            "--data.labels",
            "[emotion]",
            "--model.init_args.task",
            "emotion",
            "--model.init_args.stage1",
            stage1,
        ],
        "probe": ["--data.labels", "[emotion]", "--model.init_args.targets", "[emotion, ctc]"],
    }[file.parent.name]
    data = ["--data.manifest", run / "manifest.jsonl", "--data.store", run / "features"]
    trainer = ["--trainer.max_epochs", "1", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    arguments = ["fit", "--config", file, "--run_dir", tmp_path / "run", *data, *named_by_hand, *trainer]
    cli = train([str(argument) for argument in arguments])
    assert (tmp_path / "run" / "summary.json").is_file()
    for name, value in yaml.safe_load(file.read_text())["model"]["init_args"].items():
        if value != "???":
            assert cli.model.hparams[name] == value


@pytest.mark.parametrize("file", [*PIPELINES, *STAGES], ids=name_of)
def test_every_class_it_names_can_be_imported(file: Path) -> None:
    for path in class_paths(yaml.safe_load(file.read_text())):
        module, _, name = path.rpartition(".")
        if module:
            assert isinstance(getattr(importlib.import_module(module), name), type), path

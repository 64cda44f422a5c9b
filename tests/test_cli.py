"""The command line: help that reads well and costs nothing, exit statuses, and the verbs that train nothing."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from safetensors.torch import load_file
from tiny_pipeline import command, finished_run, refused, tone, write_corpus, write_encoder

import disentangle_lightning
from disentangle_lightning import cli, pipeline
from disentangle_lightning.corpus.audio_folder import AudioFolder
from disentangle_lightning.corpus.manifest import write_manifest
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.verbs import VERBS

PYTHON = [sys.executable, "-X", "importtime", "-m", "disentangle_lightning"]
HEAVY = {"torch", "torchaudio", "lightning", "transformers", "sklearn", "matplotlib", "wandb"}
SLOW = {"dataclasses", "inspect", "typing", "omegaconf", "yaml"}
"""Imports that the first page of help does without; each takes milliseconds."""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Lightning ignores further interrupts once it has seen one; the tests after must not inherit that."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*PYTHON, *arguments], capture_output=True, text=True, timeout=300)


def imported(importtime: str) -> set[str]:
    """The top-level packages in the log of `-X importtime`."""
    lines = [line for line in importtime.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@pytest.mark.parametrize("verb", [[], ["pipeline"], ["encode"], ["analyze"], ["report"], ["disentangle"]])
def test_help_imports_nothing_heavy(verb: list[str]) -> None:
    ended = run(*verb, "--help")
    assert ended.returncode == 0, ended.stderr
    assert f"usage: {' '.join([cli.PROGRAM, *verb])}" in ended.stdout
    assert "argparse" in imported(ended.stderr), "the log of imports is read rightly"
    assert not imported(ended.stderr) & HEAVY
    assert verb or not imported(ended.stderr) & SLOW


def test_the_first_page_of_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("--help") == (0, "")
    page = capsys.readouterr().out
    assert all(verb in page for verb in [*VERBS, *cli.TRAINING])
    assert max(map(len, page.splitlines())) <= 100


def test_help_of_pipeline_explains_every_field(capsys: pytest.CaptureFixture[str]) -> None:
    assert command("pipeline", "--help") == (0, "")
    page = capsys.readouterr().out
    for field in pipeline.PipelineSettings.__dataclass_fields__:
        assert f"--{field}: " in page


@pytest.mark.slow
@pytest.mark.parametrize("verb", cli.TRAINING)
def test_help_of_a_training_verb_lists_its_groups(verb: str) -> None:
    ended = run(verb, "--help")
    assert ended.returncode == 0, ended.stderr
    assert "--model" in ended.stdout
    assert "--data" in ended.stdout


def test_settings_that_do_not_fit_are_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("run_dirr: x\n")
    ended = run("pipeline", "--config", str(tmp_path / "p.yaml"))
    assert ended.returncode == 2
    assert "error: " in ended.stderr
    assert "field 'run_dirr'" in ended.stderr
    assert not imported(ended.stderr) & HEAVY


def test_the_console_script_is_the_module() -> None:
    script = Path(sys.executable).with_name("disentangle_lightning")
    for program in ([str(script)], [sys.executable, "-m", "disentangle_lightning"]):
        ended = subprocess.run([*program, "--version"], capture_output=True, text=True, timeout=300)
        assert (ended.returncode, ended.stdout.strip()) == (0, disentangle_lightning.__version__)


def test_an_unknown_verb_is_refused_with_those_that_exist() -> None:
    error = refused("fot", "--config", "x.yaml")
    assert error.startswith("error: there is no verb 'fot'")
    assert all(verb in error for verb in [*VERBS, *cli.TRAINING])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "VERB"),
        (["report"], "run_dir"),
        (["report", "runs/x", "--open"], "--open"),
        (["disentangle", "model"], "audio"),
        (["disentangle", "model", "a.wav", "--ou", "x"], "--ou"),
        (["pipeline"], "--config"),
        (["pipeline", "--conf", "x.yaml"], "--config"),
        (["--verbose", "report", "runs/x"], "--verbose"),
        (["--", "report", "runs/x"], "runs/x"),
        (["--", "report"], "VERB comes first"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: list[str], named: str) -> None:
    status, errors = command(*arguments)
    assert status == 2
    assert "Traceback" not in errors
    assert "error: " in errors.splitlines()[-1]
    assert named in errors.splitlines()[-1]


def test_an_interrupt_anywhere_ends_in_130(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run_pipeline", interrupt)
    (tmp_path / "p.yaml").write_text("run_dir: x\n")
    status, errors = command("pipeline", "--config", tmp_path / "p.yaml")
    assert (status, errors) == (130, "interrupted; the same command goes on where it stopped\n")


def test_an_interrupted_fit_ends_in_130(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    config = finished_run(tmp_path_factory) / "seed0" / "stage1" / "config.yaml"
    monkeypatch.setattr(Stage1VIB, "training_step", interrupt)
    status, errors = command("fit", "--config", config, "--run_dir", tmp_path / "run")
    assert status == 130
    assert errors.endswith("interrupted; the same command goes on where it stopped\n")


def test_a_program_that_exits_by_itself_keeps_its_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def leave(*_: object) -> None:
        sys.exit(3)

    monkeypatch.setattr(pipeline, "run_pipeline", leave)
    (tmp_path / "p.yaml").write_text("run_dir: x\n")
    assert command("pipeline", "--config", tmp_path / "p.yaml")[0] == 3


def test_a_bug_keeps_its_stack_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def break_down(*_: object) -> None:
        raise OSError(errno.EBADF, "a bug")

    monkeypatch.setattr(pipeline, "run_pipeline", break_down)
    (tmp_path / "p.yaml").write_text("run_dir: x\n")
    with pytest.raises(OSError, match="a bug"):
        command("pipeline", "--config", tmp_path / "p.yaml")


def test_a_full_disk_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/x/summary.json.tmp")

    monkeypatch.setattr(pipeline, "run_pipeline", fill_up)
    (tmp_path / "p.yaml").write_text("run_dir: x\n")
    error = refused("pipeline", "--config", tmp_path / "p.yaml")
    assert error == "error: runs/x/summary.json.tmp cannot be written: No space left on device"


def test_encode_makes_a_store_counts_and_lists_what_it_skips(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    soundfile.write(corpus / "07.wav", 0 * tone(0.3), 16_000)
    write_manifest(tmp_path / "manifest.jsonl", AudioFolder(str(corpus)).read().utterances)
    (tmp_path / "encode.yaml").write_text(f"encoder: {write_encoder(tmp_path / 'encoder')}\ndevice: cpu\n")
    arguments = ["--manifest", tmp_path / "manifest.jsonl", "--store", tmp_path / "store", "--layers", "[2]"]
    status, errors = command("encode", "--config", tmp_path / "encode.yaml", *arguments)
    assert status == 0, errors
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(
        rf"39 utterances in {tmp_path / 'store'}, 1 skipped, [1-9]\d* hours of audio an hour", printed[0]
    )
    assert printed[1].startswith("  skipped 07: ")
    assert "silent" in printed[1]
    assert json.loads((tmp_path / "store" / "header.json").read_text())["layers"] == [2]


def test_encode_in_parts_as_the_tasks_of_an_array_do_and_merged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_manifest(tmp_path / "manifest.jsonl", AudioFolder(str(write_corpus(tmp_path / "corpus"))).read().utterances)
    store = tmp_path / "store"
    arguments = ["--manifest", tmp_path / "manifest.jsonl", "--encoder", write_encoder(tmp_path / "encoder")]
    arguments += ["--device", "cpu", "--precision", "bf16", "--store", store, "--shard"]
    assert "field 'shard' is '0/2'; expected i/n with i from 1 to n" in refused("encode", *arguments, "0/2")
    for part in ("1/2", "2/2"):
        assert command("encode", *arguments, part) == (0, "")
    assert capsys.readouterr().out.startswith(f"20 utterances in {store}/parts/1-of-2, 0 skipped, ")
    assert "part 1/2" not in refused("encode", *arguments[:-1])
    assert command("encode", *arguments, "merge") == (0, "")
    assert capsys.readouterr().out == f"40 utterances in {store}, 0 skipped\n"
    assert command("encode", *arguments[:-1]) == (0, "")
    assert capsys.readouterr().out == f"40 utterances in {store}, 0 skipped\n"


def test_report_prints_tables_and_writes_the_page_again(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = finished_run(tmp_path_factory)
    page = (run_dir / "report.html").read_bytes()
    assert command("report", run_dir) == (0, "")
    printed = capsys.readouterr().out
    assert "z_textual" in printed
    assert f"Report: {run_dir / 'report.html'}" in printed.replace("\n", "")
    assert (run_dir / "report.html").read_bytes() == page


def test_report_compares_several_runs(
    tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = finished_run(tmp_path_factory)
    assert command("report", run_dir, run_dir) == (0, "")
    assert "Runs side by side" in capsys.readouterr().out


def test_report_of_no_run_is_refused(tmp_path: Path) -> None:
    assert "no seed0 folder" in refused("report", tmp_path)


def test_disentangle_takes_the_model_of_a_run(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    run_dir = finished_run(tmp_path_factory)
    soundfile.write(tmp_path / "clip.wav", tone(0.5), 16_000)
    status, errors = command("disentangle", run_dir / "model", tmp_path / "clip.wav", "--out", tmp_path / "out")
    assert status == 0, errors
    line = json.loads((tmp_path / "out" / "index.jsonl").read_text())
    assert line["frame_rate"] == 50.0
    assert {"transcript", "emotion"} <= line.keys() | line.get("predictions", {}).keys()
    tensors = load_file(tmp_path / "out" / "clip.safetensors")
    assert {tensor.shape[0] for tensor in tensors.values()} == {24}

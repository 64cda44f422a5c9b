"""The benchmarks: every figure is explained, and what turns timings into figures is right. Nothing is timed here."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import disentangle_lightning.tasks.training  # noqa: F401  # its libraries set environment variables: before any test

BENCHMARKS = Path(__file__).parents[1] / "experiments" / "benchmarks"
SCRIPTS = sorted(BENCHMARKS.glob("*.py"))
ROOMS = "startup|encode|stream|memory|step|probes|ddp|protocol|dtype|gpu"
FILLED = "§"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Import a script as it is when it runs, in a folder where it may leave bench.json."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.chdir(tmp_path)

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    yield load
    sys.modules.pop("harness", None)


def names(file: Path) -> set[str]:
    """The names of figures in a script; what an f-string fills in is `FILLED`."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    formed = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    parts = {id(part) for node in formed for part in node.values}
    found = {"".join(str(p.value) if isinstance(p, ast.Constant) else FILLED for p in node.values) for node in formed}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            found.add(node.value)
    is_name = re.compile(rf"({ROOMS})\.[a-z0-9_.{FILLED}]+")
    return {text for text in found if is_name.fullmatch(text) and not text.endswith((".py", ".json", ".yaml"))}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: file.stem)
def test_every_figure_has_its_row(file: Path) -> None:
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    table = [line.split("|") for line in (BENCHMARKS / "README.md").read_text().splitlines() if line.startswith("| `")]
    rows = {name: cells[-2] for cells in table for name in re.findall("`(.+?)`", cells[1])}
    for name in names(file):
        shape = re.compile(re.escape(name).replace(FILLED, "[A-Za-z0-9_.]*"))
        explained = [row for row in rows if shape.fullmatch(row)]
        assert explained, f"{name} is not in the table of experiments/benchmarks/README.md"
        assert all(f"`{file.name}`" in rows[row] for row in explained)


def test_every_row_is_of_a_script_that_is_there() -> None:
    text = (BENCHMARKS / "README.md").read_text()
    named = set(re.findall(r"`(\w+\.py)` \|$", text, re.MULTILINE))
    assert named == {file.name for file in SCRIPTS} - {"harness.py", "stream_rivals.py"}


def test_sides_take_turns_and_the_first_round_does_not_count(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    harness = script("harness")
    now, called = [0.0], []
    monkeypatch.setattr(harness.time, "perf_counter", lambda: now[0])

    def side(name: str, seconds: list[float]) -> Any:
        def call() -> None:
            called.append(name)
            now[0] += seconds.pop(0)

        return call

    found = harness.time_in_turn({"a": side("a", [9, 1, 5, 2]), "b": side("b", [9, 4, 4, 4])}, rounds=3)
    assert called == ["a", "b"] * 4
    assert found == {"a": 2, "b": 4}


def test_figures_are_printed_and_kept_beside_those_of_before(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    harness = script("harness")
    harness.record("b.ratio", 2.5, "at least 2", ours="5 clips/s", theirs="2 clips/s")
    harness.record("a.ratio", 1.0, "at most 1.3")
    harness.record("b.ratio", 2.0, "at least 2")
    assert json.loads(Path("bench.json").read_text()) == {"a.ratio": 1.0, "b.ratio": 2.0}
    first = capsys.readouterr().out.splitlines()[0]
    assert re.split(" {2,}", first) == ["b.ratio", "2.5", "(at least 2)", "ours: 5 clips/s", "theirs: 2 clips/s"]


def test_a_start_is_of_this_interpreter_and_must_succeed(script: Any) -> None:
    startup = script("startup")
    startup.start("-c", "import sys; sys.exit(0)")()
    with pytest.raises(Exception, match="returned non-zero exit status 3"):
        startup.start("-c", "import sys; sys.exit(3)")()


def test_the_gpu_script_counts_operations_and_frames_as_they_are(script: Any, tmp_path: Path) -> None:
    gpu = script("gpu")
    size, device = gpu.TINY, torch.device("cpu")
    gpu.write_features(tmp_path, size)
    data = gpu.FrameFeatureDataModule(
        str(tmp_path / "manifest.jsonl"), str(tmp_path / "store"), list(gpu.CLASSES), max_frames=size.max_frames
    )
    stage1 = gpu.modules(data.inputs, size.latent)["stage1"]
    steps = gpu.train(stage1, data, device, size, tmp_path)
    forward = 2 * size.dim**2 + 2 * size.dim * size.latent + size.latent * len(stage1.tokenizer)
    mixing = 2 * 2 * size.layers * size.dim  # each is a product and a sum; the sum over layers and its gradient
    assert steps.operations == 3 * 2 * forward + mixing
    assert steps.frames == (size.epochs - 3) * (size.utterances - 2) * size.frames
    assert steps.seconds > 0
    assert set(steps.waits) == {0}


def test_the_gpu_script_multiplies_the_protocol_out(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    gpu = script("gpu")
    seconds = gpu.protocol_seconds(1_800_000, {"stage1": 36_000_000, "probe_hidden": 18_000_000})
    assert seconds == 2 + 5 + 10
    assert "3,600,000 frames x 50 /     36,000,000 frames/s =        5.0 s" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what it says without a GPU")
def test_without_a_gpu_the_gpu_script_ends_in_a_sentence(script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    script("gpu").main([])
    assert capsys.readouterr().out == "no GPU here, so nothing is measured; --device cpu tries the script itself\n"
    assert not Path("bench.json").exists()

"""Sweeps without a server: what is drawn from a file, what is run, what is left where something fails or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fabricated_sweep import write_run
from tiny_pipeline import EXPERIMENTS, command, finished_run, refused
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from disentangle_lightning import failures
from disentangle_lightning.errors import UserError
from disentangle_lightning.report.sweep_directory import is_sweep, read_sweep_directory
from disentangle_lightning.report.sweep_page import write_sweep_report
from disentangle_lightning.sweep_file import SweepFile, read_sweep

ROOT = EXPERIMENTS.parent
SWEEPS = sorted(file for file in (EXPERIMENTS / "sweeps").glob("*.yaml") if not file.name.endswith("_monitor.yaml"))
FAKE_FIT = str(Path(__file__).with_name("fabricated_sweep.py"))


def write_sweep(folder: Path, **changed: Any) -> Path:
    """A grid of two betas and two sizes, with a `fit` that takes no time; None takes a field away."""
    tree: dict[str, Any] = {
        "method": "grid",
        "parameters": {"beta": {"values": [0.1, 0.5]}, "size": {"values": [4, 8]}},
        "command": ["${env}", "${interpreter}", FAKE_FIT, "${args}"],
    }
    file = folder / "sweep.yaml"
    file.write_text(yaml.safe_dump({name: v for name, v in (tree | changed).items() if v is not None}))
    return file


def sweep_of(folder: Path, parameters: dict[str, Any], method: str = "random", **changed: Any) -> SweepFile:
    return read_sweep(write_sweep(folder, method=method, parameters=parameters, **changed))


def test_a_grid_is_every_combination_in_order(tmp_path: Path) -> None:
    sweep = read_sweep(write_sweep(tmp_path))
    runs = [{"beta": beta, "size": size} for beta in (0.1, 0.5) for size in (4, 8)]
    assert sweep.runs() == runs
    assert sweep.runs(3) == runs[:3]
    assert sweep.runs(9) == runs
    assert read_sweep(write_sweep(tmp_path, run_cap=2)).runs() == runs[:2]


def test_random_draws_are_the_same_every_time_and_a_longer_sweep_begins_with_them(tmp_path: Path) -> None:
    ranges = {
        "even": {"min": 1.0, "max": 3.0},
        "log": {"distribution": "log_uniform_values", "min": 1.0e-4, "max": 1.0},
        "whole": {"min": 2, "max": 4},
        "one": {"values": ["a", "b"]},
        "same": {"value": None},
    }
    sweep = sweep_of(tmp_path, ranges, run_cap=5)
    many = sweep.runs(2000)
    assert sweep.runs() == many[:5]
    assert len({run["log"] for run in many}) == 2000
    assert all(1 <= run["even"] <= 3 and 1e-4 <= run["log"] <= 1 and run["same"] is None for run in many)
    assert 0.45 < sum(run["even"] < 2 for run in many) / 2000 < 0.55
    assert 0.45 < sum(run["log"] < 1e-2 for run in many) / 2000 < 0.55, "even in the logarithm"
    assert set(Counter(run["whole"] for run in many)) == {2, 3, 4}
    assert min(Counter(run["whole"] for run in many).values()) > 550
    assert min(Counter(run["one"] for run in many).values()) > 900


def test_flags_are_those_that_an_agent_gives(tmp_path: Path) -> None:
    parameters = {"beta": 1e-05, "labels": ["a", "b c"], "layer": None, "verify": True, "name": "x y"}
    theirs = create_sweep_command_args({"args": {name: {"value": value} for name, value in parameters.items()}})
    command_line = read_sweep(write_sweep(tmp_path)).command_line(parameters)
    assert command_line == ["/usr/bin/env", sys.executable, FAKE_FIT, *theirs["args"]]


BETA = {"values": [0.1]}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"method": "bayes"}, "method 'bayes' needs a server: `wandb sweep` and `wandb agent` run it"),
        ({"method": None}, "method 'None' needs a server"),
        ({"parameters": None}, "field 'parameters' is missing"),
        ({"parameters": {}}, "field 'parameters' is missing"),
        ({"command": None}, "field 'command' is missing, or has no ${args}"),
        ({"command": ["python"]}, "field 'command' is missing, or has no ${args}"),
        ({"command": ["${args}", "${args_json}"]}, "'${args_json}' in field 'command' is not understood here"),
        ({"command": ["${program}", "${args}"]}, "'${program}' in field 'command' is not understood here"),
        ({"metric": {"name": "dev/wer", "goal": "minimize"}}, "runs are compared by dev/tradeoff, with goal minimize"),
        ({"run_cap": 0}, "run_cap is 0; it must be a whole number from 1"),
        ({"parameters": {"beta": 0.1}}, "parameter 'beta' is 0.1; write value, values, or distribution"),
        ({"parameters": {"beta": {"values": []}}}, "parameter 'beta' has no list of values"),
        ({"parameters": {"beta": {"values": [1], "probabilities": [1]}}}, "'beta' has distribution 'categorical'"),
        ({"parameters": {"model": {"parameters": {"beta": BETA}}}}, "'model' is nested; write its dotted name"),
        ({"parameters": {"beta": {"min": 0.1, "max": 1.0}}}, "'beta' is a range, of which a grid has no end"),
    ],
)
def test_wrong_files_end_in_one_sentence_that_names_them(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    file = write_sweep(tmp_path, **changed)
    said = refused("sweep", file, "--out", tmp_path / "out")
    assert sentence in said
    assert str(file) in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"distribution": "normal", "mu": 0, "sigma": 1}, "has distribution 'normal', which is not drawn from here"),
        ({"distribution": "q_uniform", "min": 0, "max": 1, "q": 0.5}, "has distribution 'q_uniform'"),
        ({"min": 0.0, "max": 1.0, "q": 0.5}, "has field 'q', which is not drawn from here"),
        ({"min": 0.0}, "has max 'None', which is no number"),
        ({"min": "1e-5", "max": 1.0}, "has min '1e-5', which is no number; YAML takes 1e-5 as text, write 1.0e-5"),
        ({"min": True, "max": 1.0}, "has min 'True', which is no number"),
        ({"min": 2.0, "max": 1.0}, "has min 2.0 and max 1.0; min must not be larger"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "min must not be larger and above 0"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "distribution int_uniform takes whole numbers"),
    ],
)
def test_wrong_ranges_end_in_one_sentence(tmp_path: Path, given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        sweep_of(tmp_path, {"beta": given})
    assert sentence in str(error.value)


def test_other_wrong_input_ends_in_one_sentence(tmp_path: Path) -> None:
    assert "does not exist" in refused("sweep", tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    assert "is not YAML" in refused("sweep", tmp_path / "bad.yaml")
    assert "--count is 0; it must be 1 or more" in refused("sweep", write_sweep(tmp_path), "--count", "0")
    file = write_sweep(tmp_path, method="random")
    assert "a random sweep has no end; give --count" in refused("sweep", file, "--out", tmp_path / "out")


def started(folder: Path) -> list[str]:
    """The runs that were started, in order, with their beta."""
    return (folder / "started.txt").read_text().splitlines()


def test_runs_are_done_once_and_the_lowest_tradeoff_is_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_sweep(tmp_path), tmp_path / "out"
    status, errors = command("sweep", file, "--out", out, "--count", "2")
    assert status == 0, errors
    assert started(out) == ["001 0.1", "002 0.1"]
    status, errors = command("sweep", file, "--out", out)
    assert status == 0, errors
    assert started(out) == ["001 0.1", "002 0.1", "003 0.5", "004 0.5"]
    said = " ".join(capsys.readouterr().out.split())
    # beta 0.1: error 0.05, leakage 0.2; beta 0.5: error 0.25, leakage 0.04
    assert "The lowest trade-off on dev, 0.25, is that of 001 (beta 0.1)." in said
    assert "On test, which chose nothing, it has a word error rate of 5.5% at a leakage of 0.22" in said
    page = (out / "report.html").read_text()
    assert command("report", out)[0] == 0
    assert (out / "report.html").read_text() == page, "`report` makes the same page"
    assert "holds a sweep with parameters.beta.values [0.1, 0.5], not [0.2]" in refused(
        "sweep", write_sweep(tmp_path, parameters={"beta": {"values": [0.2]}}), "--out", out
    )


def test_a_failed_run_is_noted_and_tried_again_and_the_sweep_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = write_sweep(tmp_path, parameters={"beta": {"values": ["oops", 13, 0.1]}}), tmp_path / "out"
    for _ in range(2):
        status, errors = command("sweep", file, "--out", out)
        assert status == 1
        assert errors.splitlines()[-1] == f"error: 2 of the runs failed: 001, 002; see {out}/NAME/log.txt"
    assert started(out) == ["001 oops", "002 13", "003 0.1", "001 oops", "002 13"]
    said = [json.loads((out / name / "failure.json").read_text())["error"] for name in ("001", "002")]
    assert said == ["beta is 'oops', which is no number", "it was ended by SIGSEGV"]
    assert "001 failed: beta is 'oops', which is no number" in capsys.readouterr().out
    status, errors = command("sweep", write_sweep(tmp_path, command=["no-such-program", "${args}"]), "--out", out / "x")
    assert status == 1
    assert "no-such-program cannot be run" in errors


def start(*arguments: str | Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", "disentangle_lightning", *map(str, arguments)]
    return subprocess.Popen(program, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def wait_for(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 90
    while not true():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_ended_within_a_run_goes_on_with_it(tmp_path: Path, end: signal.Signals) -> None:
    hang, out = tmp_path / "hang", tmp_path / "out"
    line = ["${interpreter}", FAKE_FIT, f"--hang={hang}", "${args}"]
    file = write_sweep(tmp_path, parameters={"beta": {"values": [0.1, 0.2, 0.5]}}, command=line)
    assert command("sweep", file, "--out", out, "--count", "1")[0] == 0
    hang.touch()
    sweep = start("sweep", file, "--out", out)
    wait_for(lambda: hang.read_text() != "", "the second run")
    run = int(hang.read_text())
    if end is signal.SIGINT:
        os.killpg(sweep.pid, end)  # as the terminal does
        assert sweep.wait(60) == 130
        wait_for(lambda: not is_running(run), "the end of the run")
    else:
        sweep.kill()
        sweep.wait(60)
        assert is_running(run), "nobody could end it"
        assert f"{out} is being filled by another sweep, or by a run that one left behind" in refused(
            "sweep", file, "--out", out
        )
        os.kill(run, signal.SIGKILL)
        wait_for(lambda: not is_running(run), "the end of the run")
    sweep.communicate()
    hang.unlink()
    assert read_sweep_directory(out).runs[1].state == "not finished"
    assert command("sweep", file, "--out", out)[0] == 0
    assert started(out) == ["001 0.1", "002 0.2", "002 0.2", "003 0.5"]


def test_the_frontier_is_what_no_run_beats_in_rate_and_error(tmp_path: Path) -> None:
    for name, rate, error in (("a", 10, 0.5), ("b", 20, 0.3), ("c", 30, 0.4), ("d", 40, 0.1), ("e", 40, 0.2)):
        write_run(tmp_path / name, {"beta": rate}, rate, error, 0.1)
    sweep = read_sweep_directory(tmp_path)
    assert [run.name for run, _ in sweep.frontier] == ["a", "b", "d"]
    assert sweep.chosen is not None
    assert sweep.chosen.name == "d"
    point = sweep.points[0][1]
    assert (point.rate, point.error) == (40, 0.1), "of the epoch that was kept"
    assert point.leakages == {"speaker": 0.2, "style": -0.5}
    assert (point.leakage, point.tradeoff) == (pytest.approx(0.1), pytest.approx(0.2))


def test_a_stage_2_is_compared_by_its_accuracy_and_its_weight(tmp_path: Path) -> None:
    for name, error, leakage in (("a", 0.3, 0.0), ("b", 0.1, 0.2)):
        write_run(tmp_path / name, {"latent_dim": error}, 5, error, leakage, weight=2.0, stage="stage2_emotion")
    sweep = read_sweep_directory(tmp_path)
    assert sweep.chosen is not None
    assert sweep.chosen.name == "a"
    assert sweep.chosen.test is not None
    assert sweep.chosen.test.error == pytest.approx(0.33)
    page = write_sweep_report(tmp_path).read_text()
    assert "trade-off = classification error + 2 times mean leakage of speaker and style" in page


def test_the_page_is_self_contained_escaped_and_says_what_is_missing(tmp_path: Path) -> None:
    write_run(tmp_path / "<b>1", {"beta": 0.1}, 5, 0.1, 0.1)
    write_run(tmp_path / "run2", {"beta": 0.2}, 5, 0.1, 0.1, is_finished=False)
    write_run(tmp_path / "run3", {"beta": 0.3}, 5, float("nan"), 0.1)
    failures.note_failure(tmp_path / "run4", "it is <i>bad</i>", ["fit", "--config=x", "--beta=<u>", "--run_dir=y"])
    page = write_sweep_report(tmp_path).read_text()
    assert not any(tag in page for tag in ("<b>", "<i>bad", "<u>", "<script", 'http-equiv="refresh', 'src="http'))
    for text in (
        "&lt;b&gt;1",
        "it is &lt;i&gt;bad&lt;/i&gt;",
        "--beta=&lt;u&gt;",
        "1 diverged",
        "run2",
        "run3",
    ):
        assert text in page
    assert "--run_dir=y" not in page


def test_folders_that_cannot_be_compared_are_refused(tmp_path: Path) -> None:
    def problem(name: str, **second: Any) -> str:
        for run, options in (("a", {}), ("b", second)):
            write_run(tmp_path / name / run, {"beta": run}, 5, 0.1, 0.1, **options)
        return refused("report", tmp_path / name)

    assert "a weighs leakage with 1.0 and" in problem("weights", weight=2.0)
    assert "holds runs of stage1 and stage2_x" in problem("stages", stage="stage2_x")
    assert "or kept its best epoch by another figure than dev/tradeoff" in problem("monitor", monitor="dev/objective")
    failures.note_failure(tmp_path / "failed" / "a", "bad luck", [])
    assert "no run in" in refused("report", tmp_path / "failed")
    assert "a failed with: bad luck" in refused("report", tmp_path / "failed")


def test_a_pipeline_is_no_sweep(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    assert not is_sweep(finished_run(tmp_path_factory))
    assert not is_sweep(finished_run(tmp_path_factory) / "seed0" / "stage1")
    assert not is_sweep(tmp_path / "none")


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory, and the environment in which a W&B agent starts a run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_SWEEP_ID", "s1")
    monkeypatch.setenv("WANDB_RUN_ID", "r1")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "run_dir"),
    [
        (["--run_dir", "here"], "here"),
        (["--run_dir=here", "--model.beta=x=y"], "here"),
        (["--config", "a.yaml"], "runs/s1/r1"),
        (["--config=a.yaml", "--run_dir=here"], "here"),
        (["--config", "missing.yaml"], "runs/r1"),
        ([], "runs/r1"),
        (["--run_dir=${oc.env:NO_SUCH_VARIABLE}"], "runs/r1"),
    ],
)
def test_a_failed_training_of_an_agent_says_so_where_it_was_to_run(
    agent: Path, arguments: list[str], run_dir: str
) -> None:
    (agent / "a.yaml").write_text("run_dir: runs/${oc.env:WANDB_SWEEP_ID}/${oc.env:WANDB_RUN_ID}\n")
    said = refused("fit", *arguments, "--no.such=field")
    noted = json.loads((agent / run_dir / "failure.json").read_text())
    assert f"error: {noted['error']}" == said
    assert noted["arguments"] == ["fit", *arguments, "--no.such=field"]


def test_nothing_is_noted_without_an_agent_and_a_note_goes_with_the_next_start(
    agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures.note_failure(agent / "runs" / "r1", "before", [])
    with failures.noted_in_sweep(["fit"]):
        assert not (agent / "runs" / "r1" / "failure.json").exists()
    with pytest.raises(ZeroDivisionError), failures.noted_in_sweep(["fit"]):
        _ = 1 / 0
    assert "ZeroDivisionError: " in (agent / "runs" / "r1" / "failure.json").read_text()
    monkeypatch.delenv("WANDB_SWEEP_ID")
    refused("fit", "--run_dir", "other", "--no.such=field")
    assert not (agent / "other").exists()


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_fit_takes_the_first_run_of_every_shipped_sweep(
    file: Path, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_RUN", str(finished_run(tmp_path_factory)))
    monkeypatch.chdir(ROOT)
    sweep = read_sweep(file)
    line = sweep.command_line(sweep.runs()[0])
    assert line[:4] == ["/usr/bin/env", sys.executable, "-m", "disentangle_lightning"]
    label = ["--data.labels=[emotion]", "--model.init_args.task=emotion"]
    tiny = label if file.stem.startswith("stage2") else ["--data.labels=[emotion, speaker]"]
    tiny += ["--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.accelerator=cpu"]
    status, errors = command(*line[4:], *tiny, "--trainer.enable_progress_bar=false", f"--run_dir={tmp_path / 'run'}")
    assert status == 0, errors
    (run,) = read_sweep_directory(tmp_path).runs
    assert run.dev is not None
    for name, value in sweep.runs()[0].items():
        assert run.settings[name] == value
    assert f"sweep experiments/sweeps/{file.name} " in file.read_text()
    assert f"`{file.name}`" in (file.parent / "README.md").read_text()
    assert {"project", "method", "metric", "parameters", "command"} <= yaml.safe_load(file.read_text()).keys()
    if sweep.method == "random":
        assert sweep.stops_early
        assert sweep.run_cap


@pytest.mark.slow
def test_a_real_training_goes_on_where_it_was_killed(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    """Its dev figures are those of a sweep that nobody killed."""
    tree = yaml.safe_load((EXPERIMENTS / "sweeps" / "beta_grid.yaml").read_text())
    tiny = ["--trainer.max_epochs=40", "--trainer.logger=false", "--trainer.accelerator=cpu", "--data.max_utterances=4"]
    tree["command"][-1:] = [*tiny, "--data.labels=[emotion, speaker]", "${args}"]
    tree["parameters"] = {"model.init_args.beta": {"values": [0.01]}}
    file = tmp_path / "sweep.yaml"
    file.write_text(yaml.safe_dump(tree))
    metrics = tmp_path / "cut" / "001" / "metrics.csv"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_RUN", str(finished_run(tmp_path_factory)))
        patch.setenv("OMP_NUM_THREADS", "1")
        sweep = start("sweep", file, "--out", tmp_path / "cut")
        wait_for(lambda: metrics.is_file() and len(metrics.read_text().splitlines()) > 12, "some epochs")
        os.killpg(sweep.pid, signal.SIGKILL)
        sweep.communicate()
        assert not (metrics.parent / "summary.json").exists()
        rows = []
        for name in ("cut", "whole"):
            sweep = start("sweep", file, "--out", tmp_path / name)
            while sweep.poll() is None:
                rows.append(len(metrics.read_text().splitlines()))
                time.sleep(0.02)
            said, _ = sweep.communicate()
            assert sweep.returncode == 0, said.decode()
    assert min(rows) > 8, "one that began anew would have begun with an empty file"
    assert metrics.read_text() == (tmp_path / "whole" / "001" / "metrics.csv").read_text()
    assert (metrics.parent / "checkpoints" / "last.ckpt").is_file()

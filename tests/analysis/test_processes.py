"""Several analyses at a time: really at once, each with its own log, and no process outlives the command."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from made_apart import SECONDS, meet, refuse_or_die, wait_for
from tiny_pipeline import command, finished_run, refused

from disentangle_lightning.analysis.processes import in_processes
from disentangle_lightning.analysis.settings import InformationSettings
from disentangle_lightning.analysis.trained_run import DoesNotApply
from disentangle_lightning.errors import LostProcess
from disentangle_lightning.report.analysis_result import read_result


def test_two_are_made_at_once_and_each_has_its_log(tmp_path: Path) -> None:
    asked = {"a": "b", "b": "a"}
    found = {name: made.result() for name, made in in_processes(partial(meet, tmp_path), asked, tmp_path, 2)}
    assert found == {"a": "A", "b": "B"}
    assert (tmp_path / "a" / "log.txt").read_text() == "a waits for b\n"


def test_what_stood_in_the_way_of_one_is_handed_on_and_a_killed_process_is_said(tmp_path: Path) -> None:
    made = in_processes(refuse_or_die, {"a": "refuse", "b": "die"}, tmp_path, 1)
    with pytest.raises(DoesNotApply, match="nothing to be made of"):
        next(made)[1].result()
    with pytest.raises(LostProcess, match="a process that made an analysis was killed"):
        next(made)


def test_no_process_outlives_the_command(tmp_path: Path) -> None:
    program = (
        "from functools import partial; from pathlib import Path\n"
        "from disentangle_lightning.analysis.processes import in_processes; from made_apart import hang\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "if __name__ == '__main__': list(in_processes(partial(hang, folder), {'a': None}, folder / 'logs', 1))"
    )
    file = tmp_path / "program.py"
    file.write_text(program)
    parent = subprocess.Popen([sys.executable, file], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    try:
        wait_for(tmp_path / "a")
    finally:
        parent.kill()
        parent.wait()
    child = Path("/proc", (tmp_path / "a").read_text(), "status")
    deadline = time.monotonic() + SECONDS
    while child.exists() and "\nState:\tZ" not in child.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_all_come_to_the_same_as_one_after_the_other(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("disentangle_lightning.analysis.job.ANALYSES", {"information": InformationSettings})
    runs = [tmp_path / name for name in ("one", "two")]
    for run, jobs in zip(runs, ("1", "2"), strict=True):
        shutil.copytree(finished_run(tmp_path_factory), run, symlinks=True)
        status, errors = command("analyze", "all", run, "--jobs", jobs, "--information.permutations", "5")
        assert status == 0, errors
    one, two = (read_result(run / "analysis" / "information") for run in runs)
    assert one == two
    assert 'id="analysis-information"' in (runs[1] / "report.html").read_text()


def test_one_analysis_is_made_in_one_process(tmp_path: Path) -> None:
    assert "--jobs is 2; " in refused("analyze", "information", tmp_path, "--jobs", "2")
    assert "--jobs is 0; " in refused("analyze", "all", tmp_path, "--jobs", "0")

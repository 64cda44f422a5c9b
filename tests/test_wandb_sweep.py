"""The real `wandb sweep` and `wandb agent` drive a shipped sweep file against a stand-in server on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_pipeline import EXPERIMENTS, command, finished_run
from wandb_server import ENTITY, PROJECT, SweepServer, sweep_server

TINY = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]


def wandb(server: SweepServer, folder: Path, pipeline_run: Path, *arguments: str) -> str:
    """Run the command line of W&B in a folder where experiments/ is at hand; returns what it printed."""
    bin = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTEST_"))}
    environment |= {
        "PATH": f"{bin}:{environment['PATH']}",  # where an agent finds `python`
        "PIPELINE_RUN": str(pipeline_run),
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": server.url,
        "WANDB_CONFIG_DIR": str(folder),
        "WANDB_CACHE_DIR": str(folder),
        "WANDB_MODE": "offline",
        "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [str(bin / "wandb"), *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def write_tiny(name: str, folder: Path, **parameters: Any) -> Path:
    """A copy of a shipped sweep file for the tiny pipeline, with these parameters."""
    tree = yaml.safe_load((EXPERIMENTS / "sweeps" / name).read_text())
    tree["command"][-1:] = [*TINY, "--data.labels=[emotion, speaker]", "${args}"]
    file = folder / name
    file.write_text(yaml.safe_dump(tree | {"parameters": parameters}))
    return file


@pytest.mark.slow
def test_agents_run_a_shipped_sweep_and_failed_runs_are_noticed(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished_run(tmp_path_factory)
    (tmp_path / "experiments").symlink_to(EXPERIMENTS)
    file = write_tiny("beta_grid.yaml", tmp_path, **{"model.init_args.beta": {"values": [0.01, "none", 0.1]}})
    with sweep_server(count=3) as server:
        said = wandb(server, tmp_path, run, "sweep", file.name)
        sweep = re.search(rf"wandb agent {ENTITY}/{PROJECT}/(\w+)", said)
        assert sweep, said
        wandb(server, tmp_path, run, "agent", f"{ENTITY}/{PROJECT}/{sweep[1]}")  # exits with 0 all the same
        issued = server.issued[sweep[1]]

    folder = tmp_path / "runs" / "sweeps" / sweep[1]
    assert {path.name for path in folder.iterdir()} == set(issued), "one directory for each run"
    assert [settings["model.init_args.beta"] for settings in issued.values()] == [0.01, "none", 0.1]
    good, bad, other = (folder / name for name in issued)
    for path, beta in ((good, 0.01), (other, 0.1)):
        assert yaml.safe_load((path / "config.yaml").read_text())["model"]["init_args"]["beta"] == beta
        assert (path / "summary.json").is_file()
        assert not (path / "failure.json").exists()
    assert "none" in json.loads((bad / "failure.json").read_text())["error"]

    capsys.readouterr()
    status, errors = command("report", folder)
    assert status == 0, errors
    said = " ".join(capsys.readouterr().out.split())
    assert "Of 3 runs, 2 finished and 1 failed." in said
    page = (folder / "report.html").read_text()
    assert all(name in page for name in issued)
    assert "--model.init_args.beta=none" in page

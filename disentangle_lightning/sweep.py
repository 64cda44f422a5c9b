"""A sweep without a server: the runs of a W&B sweep file, one after the other, each in its own directory.

    DIR/sweep.json                  what is swept, so that DIR goes on with nothing else
    DIR/001/, DIR/002/, ...         the run directory of each `fit`, and log.txt, what it printed
    DIR/NNN/failure.json            of a run that failed: why
    DIR/report.html                 the runs, and the frontier of rate, error and leakage

A run is done once summary.json is there. Started again, the sweep leaves out those that are done, goes on with the one
that was interrupted, and tries again those that failed.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.status import Status

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.failures import forget_failure, note_failure
from disentangle_lightning.report.run_directory import read_curves
from disentangle_lightning.report.wording import number, percent
from disentangle_lightning.settings_files import first_difference
from disentangle_lightning.sweep_file import SweepFile

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 30.0
"""How long a run may take to end where the sweep is interrupted."""

_LOCK_SECONDS = 3.0
"""A run that was killed just now needs a moment to be gone."""

_OF_AN_AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")
"""Environment variables by which each run would take itself for one that a W&B agent started."""

console = Console(stderr=True, highlight=False, soft_wrap=True)


def run_sweep(sweep: SweepFile, folder: Path, count: int | None = None) -> list[str]:
    """Run what is not done yet; returns the names of the runs that failed.

    Args:
        sweep: what to run.
        folder: where the run directories go.
        count: see `SweepFile.runs`.

    Raises:
        UserError: the folder holds another sweep, or another process is filling it.
    """
    runs = sweep.runs(count)
    width = max(3, len(str(len(runs))))
    failed = []
    with _claimed(sweep, folder) as lock:
        if sweep.stops_early:
            console.print("early_terminate is for W&B: here every run goes on to its end")
        for i, parameters in enumerate(runs, start=1):
            run_dir = folder / f"{i:0{width}}"
            values = ", ".join(f"{name} {value}" for name, value in parameters.items())
            title = f"run {i} of {len(runs)}: {values}"
            if (run_dir / "summary.json").is_file():
                console.print(f"{title}: done before", style="dim", markup=False)
                continue
            command = [*sweep.command_line(parameters), f"--run_dir={run_dir}"]
            if error := _run(command, run_dir, title, lock):
                note_failure(run_dir, error, command)
                failed.append(run_dir.name)
                console.print(f"{title}: FAILED: {error}", style="bold red", markup=False)
            else:
                console.print(f"{title}: {_figures(run_dir)}", markup=False)
    return failed


def _run(command: Sequence[str], run_dir: Path, title: str, lock: int) -> str:
    """Run a command until it ends; returns why it failed, in one line, and nothing where it did not."""
    forget_failure(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    environment = {name: value for name, value in os.environ.items() if name not in _OF_AN_AGENT}
    log = run_dir / "log.txt"
    with log.open("ab") as output, Status("", console=console) as status:
        begin = output.tell()
        try:
            # The run holds the lock as well: it may outlive this process, if that is killed.
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, pass_fds=[lock]
            )
        except OSError as error:
            return f"{command[0]} cannot be run: {error.strerror}"
        try:
            while process.poll() is None:
                status.update(f"{title}: {_figures(run_dir)}".replace("[", "\\["))
                time.sleep(_POLL_SECONDS)
        finally:
            _end(process)
    if process.returncode == 0 and (run_dir / "summary.json").is_file():
        return ""
    if process.returncode in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if process.returncode < 0:
        return f"it was ended by {signal.Signals(-process.returncode).name}"
    said = log.read_bytes()[begin:].decode(errors="replace").splitlines()
    return _last_words(said) or f"it ended with status {process.returncode} and without a word"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Where the sweep is left while a run goes on: an interrupt from the terminal has reached both."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_words(lines: Sequence[str]) -> str:
    """The last line that says what was wrong, or else the last that says anything."""
    spoken = [line.strip() for line in lines if line.strip()]
    errors = [line.removeprefix("error: ") for line in spoken if line.startswith("error: ")]
    return (errors or spoken or [""])[-1]


def _figures(run_dir: Path) -> str:
    """The dev figures of the run's last epoch so far."""
    try:
        curves = read_curves(run_dir / "metrics.csv")
    except UserError:  # a row that is being written
        return "..."
    if "dev/tradeoff" not in curves:
        return "done" if (run_dir / "summary.json").is_file() else "..."
    last = {name: points[-1][1] for name, points in curves.items()}
    error = f"WER {percent(last['dev/wer'])}" if "dev/wer" in last else f"accuracy {percent(last.get('dev/accuracy'))}"
    best = min((value for _, value in curves["dev/tradeoff"] if math.isfinite(value)), default=math.nan)
    return (
        f"epoch {len(curves['dev/tradeoff'])}, {error}, {number(last['dev/rate_bits_per_second'], 1)} bits/s, "
        f"trade-off {number(last['dev/tradeoff'], 3)} (lowest {number(best, 3)})"
    )


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _claimed(sweep: SweepFile, folder: Path) -> Iterator[int]:
    """Hold the folder for this sweep alone; hands out the lock's file descriptor."""
    file = folder / "sweep.json"
    now = {"method": sweep.method, "parameters": sweep.parameters, "command": sweep.command}
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while not _lock(lock):
            if time.monotonic() > deadline:
                raise UserError(
                    f"{folder} is being filled by another sweep, or by a run that one left behind; wait until it has "
                    "ended"
                )
            time.sleep(0.1)
        if file.is_file() and (difference := first_difference(json.loads(file.read_text(encoding="utf-8")), now)):
            raise UserError(f"{folder} holds a sweep with {difference}; name another --out, or delete this one")
        write_text(file, json.dumps(now, indent=1, ensure_ascii=False) + "\n")
        yield lock.fileno()

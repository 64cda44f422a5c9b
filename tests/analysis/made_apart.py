"""What the processes of test_processes.py do; apart from it, so that they start without all that it imports."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from disentangle_lightning.analysis.trained_run import DoesNotApply

SECONDS = 300.0
"""How long to wait on a busy machine for what takes a few seconds."""


def wait_for(file: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not file.exists():
        assert time.monotonic() < deadline, f"{file} never came"
        time.sleep(0.02)


def meet(folder: Path, name: str, other: str) -> str:
    """Returns only while the other one runs, too."""
    print(f"{name} waits for {other}")
    (folder / f"{name}.here").touch()
    wait_for(folder / f"{other}.here")
    return name.upper()


def refuse_or_die(_: str, how: str) -> None:
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    raise DoesNotApply("nothing to be made of")


def hang(folder: Path, name: str, _: None) -> None:
    (folder / name).write_text(str(os.getpid()))
    time.sleep(SECONDS)

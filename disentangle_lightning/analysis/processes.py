"""Several analyses at a time, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TypeVar

import torch

from disentangle_lightning.errors import LostProcess

Made = TypeVar("Made")

LOG = "log.txt"
"""What an analysis prints, in its folder, where it shares the terminal with others."""


def in_processes(
    make: Callable[[str, Any], Made], wanted: Mapping[str, Any], folder: Path, jobs: int
) -> Iterator[tuple[str, Future[Made]]]:
    """Make `make(name, settings)` of each that is wanted, `jobs` at a time; yields each as it ends.

    The processes share this one's threads, and none outlives it.

    Args:
        make: a function, or a partial of one, that another process can import.
        wanted: {name: settings}.
        folder: FOLDER/NAME/log.txt gets what each prints.
        jobs: how many at a time.

    Raises:
        LostProcess: one of the processes was killed.
    """
    # Spawned: a forked process would have this one's locks, but not its threads.
    context = multiprocessing.get_context("spawn")
    threads = max(1, torch.get_num_threads() // jobs)
    pool = ProcessPoolExecutor(min(jobs, len(wanted)), context, initializer=_start, initargs=(threads,))
    names = {pool.submit(_logged, folder / name / LOG, make, name, wanted[name]): name for name in wanted}
    try:
        for future in as_completed(names):
            if isinstance(future.exception(), BrokenProcessPool):
                raise LostProcess(
                    "a process that made an analysis was killed, as where memory runs out; what it said is in "
                    f"{folder}/*/{LOG}, and the same command goes on, with --jobs 1 in less memory"
                )
            yield names[future], future
    finally:
        pool.shutdown(cancel_futures=True)


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True, name="parent-watch").start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _logged(log: Path, make: Callable[[str, Any], Made], name: str, settings: Any) -> Made:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        return make(name, settings)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()

"""What streaming takes in memory, and what fresh memory takes in time.

memory.growth       peak memory of a process that streams one epoch from disk, over that for a tenth of the corpus:
                    1 where memory does not depend on the corpus
memory.fresh_copy   time to copy a batch into fresh memory, over that into memory used before
memory.kept_copy    the same once `keep_freed_memory` was called, as every training does
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from harness import record, time_in_turn
from stream import DIM, LAYERS, make_utterances, ours, write_store
from stream_rivals import MAX_FRAMES

from disentangle_lightning.memory import keep_freed_memory

UTTERANCES, TIMES = 60, 10
SMALL_BATCH = 1000
"""Frames: the smaller corpus has a dozen batches of it, after which the memory for batches has its final size."""


def peak_of_an_epoch(folder: Path) -> int:
    """Peak resident memory in bytes of a fresh process that does `stream_once`."""
    told = subprocess.run([sys.executable, __file__, str(folder)], stdout=subprocess.PIPE, check=True, text=True)
    return int(told.stdout)


def stream_once(folder: Path) -> None:
    """Stream an epoch, and print the most memory that this process ever had, in bytes."""
    keep_freed_memory()
    torch.set_num_threads(1)
    for _ in ours(folder, "disk", 0, SMALL_BATCH)(0):
        pass
    status = Path("/proc/self/status").read_text().split()
    print(1024 * int(status[status.index("VmHWM:") + 1]))


def measure_growth() -> None:
    peaks = []
    with tempfile.TemporaryDirectory() as name:
        few = make_utterances(UTTERANCES)
        for times in (1, TIMES):
            folder = Path(name, str(times))
            folder.mkdir()
            write_store({f"{id}-{i}": features for i in range(times) for id, features in few.items()}, folder)
            peaks.append(peak_of_an_epoch(folder))
    small = sum(features.nbytes for features in few.values())
    record(
        "memory.growth",
        peaks[1] / peaks[0],
        "at most 1.10",
        small=f"{peaks[0] / 1e6:.0f} MB for {small / 1e9:.2f} GB",
        large=f"{peaks[1] / 1e6:.0f} MB for {TIMES * small / 1e9:.2f} GB",
    )


def measure_copies() -> None:
    torch.set_num_threads(1)
    source = torch.ones(LAYERS, MAX_FRAMES, DIM, dtype=torch.float16)
    target = torch.ones_like(source)
    sides = {"fresh": lambda: torch.empty_like(source).copy_(source), "reused": lambda: target.copy_(source)}
    seconds = time_in_turn(sides, rounds=15)
    keep_freed_memory()
    kept = time_in_turn(sides, rounds=15)

    def rate(taken: float) -> str:
        return f"{source.nbytes / taken / 1e9:.1f} GB/s"

    for name, found, wanted in (
        ("memory.fresh_copy", seconds, "no target: the default"),
        ("memory.kept_copy", kept, "at most 1.2"),
    ):
        record(name, found["fresh"] / found["reused"], wanted, new=rate(found["fresh"]), reused=rate(found["reused"]))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        stream_once(Path(sys.argv[1]))
    else:
        measure_copies()
        measure_growth()

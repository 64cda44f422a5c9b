"""Eight probes in one pass over the data beside one: seven labels and transcription, as steps of a real training.

`probes.cost_of_eight` is the time of a step with all of them divided by that of a step with one of them, averaged over
which one; `.dearest` divides by the step of the one that takes longest. Each fit takes a few steps, in turn, on the
same batches; on latents these are remembered after the first epoch, and only later steps count.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch
from harness import record
from step import CLASSES, LATENT, SMALL, StepTimes, fit, inputs_of, make_batch

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB

TARGETS = [*CLASSES, "ctc"]
ROUNDS = 3


def seconds_per_step(batches: Sequence[FrameBatch], steps: int, **options: Any) -> dict[str, float]:
    """The median step of every target alone, and of `all` together."""
    alone = {target: [target] for target in TARGETS}
    times = {name: StepTimes(warm_up=len(batches) + 2) for name in [*alone, "all"]}
    for _ in range(ROUNDS):
        for name, targets in (alone | {"all": TARGETS}).items():
            fit(Probe(inputs_of(), targets, **options), batches, steps + times[name].warm_up, times[name])
    return {name: statistics.median(measured.steps) for name, measured in times.items()}


def report(name: str, seconds: dict[str, float]) -> None:
    """Print and keep both ratios."""
    eight = seconds.pop("all")
    dearest = max(seconds, key=lambda target: seconds[target])
    mean = statistics.mean(seconds.values())
    sides = {"ours": f"{eight * 1e3:.1f} ms a step of eight"}
    record(name, eight / mean, "at most 1.5", **sides, theirs=f"{mean * 1e3:.1f} ms a step of one, on average")
    record(
        f"{name}.dearest", eight / seconds[dearest], "at most 1.5", **sides,
        theirs=f"{seconds[dearest] * 1e3:.1f} ms of {dearest} alone, {seconds['emotion'] * 1e3:.1f} ms of emotion",
    )  # fmt: skip


def main() -> None:
    keep_freed_memory()
    batches = [make_batch(SMALL, seed=seed) for seed in range(3)]
    stage1 = Stage1VIB(inputs_of(), latent_dim=LATENT)
    source = {"kind": "Stage1VIB", "hparams": dict(stage1.hparams)}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        suffix = f".threads_{threads}"
        report(f"probes.cost_of_eight{suffix}", seconds_per_step(batches, 6))
        latent = seconds_per_step(batches, 12, representation="textual", source=source)
        report(f"probes.cost_of_eight.latent{suffix}", latent)


if __name__ == "__main__":
    main()

"""Eight probes in one pass over the data beside one: seven labels and transcription, as steps of a real training.

`probes.cost_of_eight` is the time of a step with all of them divided by that of the dearer kind alone: a label (on
average over the seven) on hidden states, transcription on latents. `.of_mean` divides by the mean over all eight, most
of which are labels; on latents, where transcription is nearly all of the work, that mean is less than half of what
transcription takes alone. Each fit takes a few steps, in turn, on the same batches; latents are remembered after the
first epoch, and only later steps count.
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
    eight, ctc = seconds["all"], seconds["ctc"]
    label = statistics.mean(seconds[target] for target in CLASSES)
    ours = f"{eight * 1e3:.1f} ms a step of eight"
    theirs = f"{label * 1e3:.1f} ms of a label alone, {ctc * 1e3:.1f} ms of ctc alone"
    record(name, eight / max(label, ctc), "at most 1.5", ours=ours, theirs=theirs)
    mean = statistics.mean(seconds[target] for target in TARGETS)
    record(f"{name}.of_mean", eight / mean, "for comparison", ours=ours, theirs=f"{mean * 1e3:.1f} ms on average")


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

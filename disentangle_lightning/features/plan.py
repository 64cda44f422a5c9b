"""Which utterances go into which batch of which process: a pure function, the same everywhere.

The plan is data and the loading is dumb: workers can neither lose nor double an utterance, and to resume is
to skip the first n batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_SPREAD = math.sqrt(2)
"""Lengths are blurred by up to this factor before they are sorted: the longest utterance of a batch is at
most about twice as long as the shortest, and batches differ from epoch to epoch."""

_SPARE = 1.02
"""Batches of a shuffled epoch beyond those that sorted utterances fill, so that most orders fit."""


def plan_batches(
    lengths: Sequence[int] | npt.NDArray[np.int64],
    max_frames: int,
    seed: int,
    epoch: int,
    world_size: int,
    max_utterances: int | None = None,
    shuffle: bool = True,
) -> list[list[list[int]]]:
    """Deal U utterances into batches for W = `world_size` processes: plan[rank][step] is a list of indices.

    With n(o) the number of batches that the order o gives when each is filled in turn, up to `max_frames`
    frames and `max_utterances` utterances, and an utterance longer than `max_frames` alone:

        batches  M = W ceil(min(U, K) / W),   K = ceil(1.02 n(sorted by length)) if shuffle, else n(as given)

    so M does not depend on the seed or the epoch, and every process makes M / W steps. To get M batches, the
    one with the most utterances is split in two until there are enough. If M > U, every batch is one
    utterance, and M - U < W of them are repeated, in turn; else every utterance is in exactly one batch.

    Batch number s W + r of the epoch is step s of rank r. Shuffled by (seed, epoch), steps come in random
    order, and utterances of loosely similar length share a batch. Not shuffled, utterances keep their order.

    Processes wait for each other at every step, so a shuffled step is dealt batches of like size: neighbours when
    all are sorted by frames f. Hence over an epoch, where M <= U:

        sum over steps of (largest f - smallest f)  <=  largest f - smallest f of all batches

    Args:
        lengths: [U] frames of each utterance.
        max_frames: the most frames of a batch.
        seed, epoch: decide the shuffling, nothing else does.
        world_size: the number of processes.
        max_utterances: the most utterances of a batch; None means any number.
        shuffle: False for evaluation.

    >>> plan_batches([30, 10, 20, 40], max_frames=60, seed=0, epoch=0, world_size=2, shuffle=False)
    [[[0, 1, 2]], [[3]]]
    """
    frames = np.asarray(lengths, dtype=np.int64)
    if not len(frames):
        return [[] for _ in range(world_size)]
    if shuffle:
        rng = np.random.default_rng([seed, epoch])
        batches = _shuffled(frames, max_frames, max_utterances, world_size, rng)
    else:
        batches = _fill(np.arange(len(frames)), frames, max_frames, max_utterances)
        _split(batches, _count(len(batches), len(frames), world_size))
    batches += [batches[i % len(batches)] for i in range(-len(batches) % world_size)]
    return [batches[rank::world_size] for rank in range(world_size)]


def _shuffled(
    frames: npt.NDArray[np.int64],
    max_frames: int,
    max_utterances: int | None,
    world_size: int,
    rng: np.random.Generator,
) -> list[list[int]]:
    shortest_first = np.argsort(frames, kind="stable")
    fewest = len(_fill(shortest_first, frames, max_frames, max_utterances))
    count = _count(math.ceil(_SPARE * fewest), len(frames), world_size)
    # An unlucky order may need more batches than `count`; the less blur, the closer to `fewest`, at 0 exact.
    for spread in (_SPREAD, _SPREAD**0.5, _SPREAD**0.25, 1.0):
        shuffled = rng.permutation(len(frames))
        blurred = frames[shuffled] * spread ** rng.uniform(-1, 1, len(frames))
        batches = _fill(shuffled[np.argsort(blurred, kind="stable")], frames, max_frames, max_utterances)
        if len(batches) <= count:
            break
    _split(batches, count)
    return _deal([batches[i] for i in rng.permutation(len(batches))], frames, world_size)


def _deal(batches: list[list[int]], frames: npt.NDArray[np.int64], world_size: int) -> list[list[int]]:
    """Batches of like size into one step; steps in the order of their first batch, one that is not full last."""
    largest_first = sorted(range(len(batches)), key=lambda i: -int(frames[batches[i]].sum()))
    steps = [largest_first[i : i + world_size] for i in range(0, len(batches), world_size)]
    steps.sort(key=lambda step: (len(step) < world_size, min(step)))
    return [batches[i] for step in steps for i in step]


def _fill(
    order: npt.NDArray[np.int64],
    frames: npt.NDArray[np.int64],
    max_frames: int,
    max_utterances: int | None,
) -> list[list[int]]:
    batches: list[list[int]] = [[]]
    filled = 0
    for i, length in zip(order.tolist(), frames[order].tolist(), strict=True):
        full = filled + length > max_frames or len(batches[-1]) == max_utterances
        if full and batches[-1]:
            batches.append([])
            filled = 0
        batches[-1].append(i)
        filled += length
    return batches


def _count(batches: int, utterances: int, world_size: int) -> int:
    """M of the contract."""
    return math.ceil(min(utterances, batches) / world_size) * world_size


def _split(batches: list[list[int]], count: int) -> None:
    """Split the batch with most utterances in two, until there are `count` batches or nothing to split."""
    while len(batches) < count:
        largest = max(range(len(batches)), key=lambda i: len(batches[i]))
        batch = batches[largest]
        if len(batch) == 1:
            return
        middle = (len(batch) + 1) // 2
        batches[largest : largest + 1] = [batch[:middle], batch[middle:]]

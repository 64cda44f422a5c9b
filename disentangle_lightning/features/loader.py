"""The loader: hands out the batches of the plan, and resumes in the middle of an epoch."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils.data import Sampler

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.dataset import FrameDataset
from disentangle_lightning.features.plan import plan_batches


class PlanSampler(Sampler[list[int]]):
    """This process's batches of the plan, as lists of places in the data set.

    Rank and world size are asked of torch.distributed when iteration begins, for only then are they settled.

    Attributes:
        epoch: the epoch dealt next; Lightning sets it through `set_epoch`.
        skip: how many batches of that epoch to leave out, for they were delivered before.
    """

    def __init__(
        self,
        lengths: npt.NDArray[np.int64],
        max_frames: int,
        max_utterances: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        self.lengths = lengths
        self.max_frames = max_frames
        self.max_utterances = max_utterances
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self._plan: list[list[list[int]]] = []
        self._planned: tuple[int, int] | None = None

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches()[self.skip :])

    def __len__(self) -> int:
        """Batches of an epoch in each process: the same in all of them, in every epoch."""
        return len(self._batches())

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Everything but the epoch that decides the plan."""
        return {
            "world_size": _world()[1],
            "seed": self.seed,
            "max_frames": self.max_frames,
            "max_utterances": self.max_utterances,
            "utterances": hashlib.sha256(self.lengths.tobytes()).hexdigest(),
        }

    def check_same(self, before: dict[str, Any]) -> None:
        """Refuse to go on with a training that had another plan.

        Raises:
            UserError: `before`, the fingerprint of that plan, is not this one's.
        """
        for name, now in self.fingerprint.items():
            if before.get(name) != now:
                raise UserError(
                    f"the checkpoint was trained under a plan with {name} {before.get(name)}, but this run has {now}; "
                    f"resume with the same {name}, or train anew in another --run_dir"
                )

    def _batches(self) -> list[list[int]]:
        rank, world_size = _world()
        if self._planned != (self.epoch, world_size):
            self._plan = plan_batches(
                self.lengths,
                self.max_frames,
                self.seed,
                self.epoch,
                world_size,
                self.max_utterances,
                self.shuffle,
            )
            self._planned = (self.epoch, world_size)
        return self._plan[rank]


def _world() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


class FrameLoader:
    """Hands out the batches of the plan in its order, read ahead by threads: reading and copying need no Python.

    A batch counts as delivered when the training loop gets it, not when a thread has read it ahead.

    Args:
        dataset: the utterances.
        sampler: their plan; Lightning calls its `set_epoch`.
        num_workers: how many batches are read ahead, each by a thread of its own; with 0, a batch is read when it is
            asked for.
        pin_memory: move everything of a batch to memory from which a GPU copies by itself.
    """

    batch_sampler = None
    """Lightning asks whatever has a sampler for it."""

    def __init__(
        self, dataset: FrameDataset, sampler: PlanSampler, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        self.dataset = dataset
        self.sampler = sampler
        self._workers = num_workers
        self._pin_memory = pin_memory
        self._epoch = 0
        self._delivered = 0
        self._resumes = False

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[FrameBatch]:
        # A generator, so that nothing is planned before the first batch is asked for: Lightning makes the
        # iterator of the first epoch before it calls set_epoch.
        if not (self._resumes and self._epoch == self.sampler.epoch):
            self._epoch, self._delivered = self.sampler.epoch, 0
        self._resumes = False
        self.sampler.skip = self._delivered
        for batch in self._read_ahead() if self._workers else map(self._read, self.sampler):
            self._delivered += 1
            yield batch

    def _read_ahead(self) -> Iterator[FrameBatch]:
        """At most one batch more than there are threads is in memory, beside the one in use."""
        pool = ThreadPoolExecutor(self._workers, thread_name_prefix="frames")
        waiting: deque[Future[FrameBatch]] = deque()
        inference = torch.is_inference_mode_enabled()  # each thread has its own mode, and what was made in it stays so
        try:
            for places in self.sampler:
                waiting.append(pool.submit(self._read_in_thread, places, self.dataset.empty(places), inference))
                if len(waiting) > self._workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also when the epoch is broken off: what nobody waits for is not read, and no thread is left
            pool.shutdown(cancel_futures=True)

    def _read_in_thread(self, places: list[int], room: Tensor, inference: bool) -> FrameBatch:
        with torch.inference_mode(inference):
            return self._read(places, room)

    def _read(self, places: list[int], room: Tensor | None = None) -> FrameBatch:
        batch = self.dataset.fetch(places, self.dataset.empty(places) if room is None else room)
        return batch.pin_memory() if self._pin_memory else batch

    def state_dict(self) -> dict[str, Any]:
        """How far the loader is: the epoch, the batches delivered in it, and what decides the plan."""
        return {"epoch": self._epoch, "delivered": self._delivered, "plan": self.sampler.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the batches that were delivered.

        Raises:
            UserError: the checkpoint was made under another plan.
        """
        self.sampler.check_same(state["plan"])
        self._epoch, self._delivered = state["epoch"], state["delivered"]
        self._resumes = True

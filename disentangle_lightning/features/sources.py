"""Where the frames of a batch come from: the store's files, memory, or the accelerator's memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from disentangle_lightning.features.quantization import DEQUANTIZED, dequantize
from disentangle_lightning.features.store import FeatureStore, RawFrames

_CHUNK_BYTES = 64_000_000
"""What is read at once on its way into memory."""


class FrameSource(Protocol):
    """Makes the features of a batch, from any thread.

    Room is made apart from the filling, by the one thread that consumes the batches: what the C library hands to
    another thread is fresh memory every time, and the kernel clears it more slowly than it is filled.
    """

    def empty(self, frames: int) -> Tensor:
        """Room for [frames, layers, dim]: a view of [layers, frames, dim], on the device where it will be filled."""

    def gather(self, indices: Sequence[int], out: Tensor) -> Tensor:
        """Fill `out` with the frames of these utterances, end to end, and return it.

        Raises:
            UserError: a file cannot be read.
        """


class StoredFrames:
    """Frames straight from the store's files; the operating system caches what fits.

    Args:
        store: the store.
        layers: the numbers of the layers wanted.
        pinned: make batches in memory from which a GPU copies by itself.
    """

    def __init__(self, store: FeatureStore, layers: Sequence[int], pinned: bool = False) -> None:
        self._store = store
        self._places = store.places(layers)
        self._pinned = pinned
        self._scratch = threading.local()

    def empty(self, frames: int) -> Tensor:
        shape = len(self._places), frames, self._store.dim
        return torch.empty(shape, dtype=_read_dtype(self._store), pin_memory=self._pinned).transpose(0, 1)

    def gather(self, indices: Sequence[int], out: Tensor) -> Tensor:
        features = out.transpose(0, 1)
        if self._store.dtype != torch.int8:
            self._store.fill(RawFrames(features, None), indices, self._places)
            return out
        end = 0
        for index in indices:  # one at a time, so that the eight bits stay in the processor's cache
            raw = self._room(int(self._store.lengths[index]))
            self._store.fill(raw, [index], self._places)
            begin, end = end, end + raw.values.shape[1]
            _dequantize(raw, features[:, begin:end])
        return out

    def _room(self, frames: int) -> RawFrames:
        """Memory of this thread that every utterance uses again."""
        layers, dim = len(self._places), self._store.dim
        if getattr(self._scratch, "frames", 0) < frames:
            self._scratch.frames, self._scratch.raw = frames, self._store.buffer(frames, layers)
        raw: RawFrames = self._scratch.raw
        values, scales = raw.values.view(-1)[: layers * frames * dim], raw.scales.view(-1)[: layers * frames]  # type: ignore[union-attr]
        return RawFrames(values.view(layers, frames, dim), scales.view(layers, frames))


class ResidentFrames:
    """The wanted layers of the wanted utterances, read into memory once, as they are stored.

    Args:
        store: the store.
        layers: the numbers of the layers wanted.
        indices: the utterances wanted.
        device: where they are kept, and where batches are made.
        pinned: make batches in memory from which a GPU copies by itself.
    """

    def __init__(
        self,
        store: FeatureStore,
        layers: Sequence[int],
        indices: Sequence[int],
        device: torch.device | str = "cpu",
        pinned: bool = False,
    ) -> None:
        self._dtype = _read_dtype(store)
        self._pinned = pinned
        places = store.places(layers)
        lengths = store.lengths[list(indices)]
        ends = np.cumsum(lengths)
        self._slices = {i: slice(e - n, e) for i, n, e in zip(indices, lengths.tolist(), ends.tolist(), strict=True)}
        shape = len(places), int(ends[-1]), store.dim
        self._values = torch.empty(shape, dtype=store.dtype, device=device)
        self._scales = torch.empty(shape[:2], device=device) if store.dtype == torch.int8 else None
        for part in _chunks(indices, np.cumsum(lengths * store.frame_bytes(layers))):
            into = slice(self._slices[part[0]].start, self._slices[part[-1]].stop)
            raw = store.buffer(into.stop - into.start, len(places))
            store.fill(raw, part, places)
            self._values[:, into].copy_(raw.values)
            if self._scales is not None and raw.scales is not None:
                self._scales[:, into].copy_(raw.scales)

    def empty(self, frames: int) -> Tensor:
        shape, device = (self._values.shape[0], frames, self._values.shape[2]), self._values.device
        return torch.empty(shape, dtype=self._dtype, device=device, pin_memory=self._pinned).transpose(0, 1)

    def gather(self, indices: Sequence[int], out: Tensor) -> Tensor:
        kept = [self._slices[index] for index in indices]
        (self._copy if out.device.type == "cpu" else self._select)(kept, out.transpose(0, 1))
        return out

    def _copy(self, kept: Sequence[slice], features: Tensor) -> None:
        """Utterance by utterance."""
        end = 0
        for frames in kept:
            begin, end = end, end + frames.stop - frames.start
            values, room = self._values[:, frames], features[:, begin:end]
            if self._scales is not None:
                _dequantize(RawFrames(values, self._scales[:, frames]), room)
            else:  # numpy copies slices a quarter faster, around the processor's cache
                np.copyto(_bytes(room), _bytes(values))

    def _select(self, kept: Sequence[slice], features: Tensor) -> None:
        """All at once: on a GPU, each operation costs the host more time than it takes to copy an utterance there."""
        frames = np.concatenate([np.arange(part.start, part.stop) for part in kept])
        places = torch.from_numpy(frames).to(features.device, non_blocking=True)
        if self._scales is None:
            torch.index_select(self._values, 1, places, out=features)
        else:
            _dequantize(RawFrames(self._values[:, places], self._scales[:, places]), features)


def _bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    return tensor.view(torch.uint8).numpy()


def _read_dtype(store: FeatureStore) -> torch.dtype:
    return DEQUANTIZED if store.dtype == torch.int8 else store.dtype


def _dequantize(raw: RawFrames, out: Tensor) -> None:
    assert raw.scales is not None
    dequantize(raw.values, raw.scales, out)


def _chunks(indices: Sequence[int], ends: npt.NDArray[np.int64]) -> Iterator[list[int]]:
    """The utterances in groups of about `_CHUNK_BYTES`, given the byte where each ends."""
    for _, group in groupby(zip(indices, ends.tolist(), strict=True), key=lambda item: item[1] // _CHUNK_BYTES):
        yield [index for index, _ in group]

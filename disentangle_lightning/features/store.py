"""Read a feature store: every utterance goes from its file straight to its place in a batch.

Files are read, not mapped: the memory of a process does not grow with the corpus it has seen, and what is asked for
is all that is read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Skipped
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import (
    COMPLETE,
    DTYPES,
    FORMAT,
    HEADER,
    SHARDS,
    Sidecar,
    checksum,
    read_json,
    read_skipped,
)
from disentangle_lightning.features.quantization import dequantize


@dataclass(frozen=True)
class RawFrames:
    """Frames as they are stored, in the order of a batch: a buffer that a store fills.

    Attributes:
        values: [layers, frames, dim], contiguous.
        scales: [layers, frames] float32 where the values are int8, else None.
    """

    values: Tensor
    scales: Tensor | None


class FeatureStore:
    """Frame features of a corpus, as `encode` wrote them; open it with `FeatureStore.open`.

    Layers go by their number in the encoder, 1 to L as in arXiv 2410.03037; its embedding output would be 0. Any
    number of threads may read at once.

    Attributes:
        path: the store's folder.
        header: what was encoded, by which encoder, into which layers and dtype.
        ids: the utterances, in the order in which they lie on disk.
        lengths: [utterances] int64, frames of each.
        skipped: the utterances that could not be encoded, with reasons.
    """

    def __init__(self, path: Path, header: dict[str, Any], shards: list[Path], sidecars: Iterator[Sidecar]) -> None:
        self.path = path
        self.header = header
        self.skipped: list[Skipped] = read_skipped(path)
        self.ids: list[str] = []
        frames = []
        for sidecar in sidecars:
            self.ids += [u["id"] for u in sidecar.utterances]
            frames.append(np.array([u["frames"] for u in sidecar.utterances], dtype=np.int64))
        self.lengths = np.concatenate(frames)
        self._shards = shards
        self._shard_of = np.repeat(np.arange(len(shards), dtype=np.int32), [len(shard) for shard in frames])
        # The first row of each utterance in its shard: every frame before it has a row for every layer.
        self._row = np.concatenate([np.cumsum(shard) - shard for shard in frames]) * len(self.layers)
        self._offsets: dict[int, tuple[int, int]] = {}

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> FeatureStore:
        """Open a complete store.

        Args:
            path: its folder.
            verify: compare each shard's checksum, which reads every byte once; sizes are always compared.

        Raises:
            UserError: there is no store, it is incomplete or of another format, or a shard is missing or
                damaged.
        """
        path = Path(path)
        if not (path / HEADER).is_file():
            raise UserError(f"feature store {path} does not exist; make it with encode")
        header = read_json(path / HEADER)
        if header.get("format") != FORMAT:
            raise UserError(
                f"feature store {path} has format {header.get('format')}, but this version reads format "
                f"{FORMAT}; delete the store and run encode again"
            )
        if not (path / COMPLETE).is_file():
            raise UserError(f"feature store {path} is incomplete; run encode again, which goes on where it stopped")
        shards = [path / SHARDS / name for name in read_json(path / COMPLETE)["shards"]]
        return cls(path, header, shards, (_checked(shard, verify) for shard in shards))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def layers(self) -> list[int]:
        """The numbers of the stored layers, ascending."""
        return list(self.header["layers"])

    @property
    def dim(self) -> int:
        """The size of a hidden state."""
        return int(self.header["dim"])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the stored values."""
        return DTYPES[self.header["dtype"]]

    def frame_bytes(self, layers: Sequence[int]) -> int:
        """What a frame of these layers takes in the file and in memory."""
        return len(layers) * (self.dim * self.dtype.itemsize + (4 if self.dtype == torch.int8 else 0))

    def read(self, index: int, layers: Sequence[int] | None = None) -> Tensor:
        """The features of one utterance: [frames, layers, dim], a view of [layers, frames, dim] in fresh memory.

        Args:
            index: its place in `ids`.
            layers: the numbers of the layers wanted; None means all.

        Returns:
            The store's dtype; float16 where that is int8.

        Raises:
            UserError: a layer is not in the store, or the file cannot be read.
        """
        places = self.places(self.layers if layers is None else layers)
        raw = self.buffer(int(self.lengths[index]), len(places))
        self.fill(raw, [index], places)
        features = raw.values if raw.scales is None else dequantize(raw.values, raw.scales)
        return features.transpose(0, 1)

    def buffer(self, frames: int, layers: int, pinned: bool = False) -> RawFrames:
        """Room for so many frames as they are stored; `pinned` for memory from which a GPU copies by itself."""
        values = torch.empty(layers, frames, self.dim, dtype=self.dtype, pin_memory=pinned)
        if self.dtype != torch.int8:
            return RawFrames(values, None)
        return RawFrames(values, torch.empty(layers, frames, pin_memory=pinned))

    def fill(self, raw: RawFrames, indices: Sequence[int], places: Sequence[int]) -> None:
        """Read utterances into a buffer, end to end.

        Args:
            raw: as many layers as `places`, and as many frames as the utterances have together.
            indices: the utterances.
            places: where the wanted layers lie along the store's layer axis (see `places`).

        Raises:
            UserError: a shard is missing or damaged, or cannot be read.
        """
        runs = _runs(places)
        width = self.dim * self.dtype.itemsize
        values = _memory(raw.values)
        scales = None if raw.scales is None else _memory(raw.scales)
        total = raw.values.shape[1]
        first = 0
        for index in indices:
            frames = int(self.lengths[index])
            shard, row = int(self._shard_of[index]), int(self._row[index])
            with _opened(self._shards[shard]) as file:
                features_at, scales_at = self._offsets_in(shard, file)
                for place, at, count in runs:
                    begin, rows = row + place * frames, [(at + i) * total + first for i in range(count)]
                    _read(file, features_at + begin * width, [values[r * width : (r + frames) * width] for r in rows])
                    if scales is not None:
                        _read(file, scales_at + begin * 4, [scales[r * 4 : (r + frames) * 4] for r in rows])
            first += frames

    def places(self, layers: Sequence[int]) -> list[int]:
        """Where layers of these numbers lie along the store's layer axis, from 0.

        Raises:
            UserError: a layer is not in the store, or none is asked for.
        """
        stored = self.layers
        if not layers or not set(layers) <= set(stored):
            raise UserError(
                f"layers {list(layers)} were asked for, but feature store {self.path} holds layers {stored}"
            )
        return [stored.index(layer) for layer in layers]

    def _offsets_in(self, shard: int, file: int) -> tuple[int, int]:
        """Where features and scales begin in a shard, which has its own header to say so."""
        if shard not in self._offsets:
            size = bytearray(8)
            _read(file, 0, [memoryview(size)])
            header = bytearray(int.from_bytes(size, "little"))
            _read(file, 8, [memoryview(header)])
            entries, end = json.loads(header), 8 + len(header)
            scales = entries.get("scales", entries["features"])  # never asked for where there are none
            self._offsets[shard] = end + entries["features"]["data_offsets"][0], end + scales["data_offsets"][0]
        return self._offsets[shard]


def _checked(shard: Path, verify: bool) -> Sidecar:
    sidecar_file = shard.with_suffix(".json")
    if not shard.is_file() or not sidecar_file.is_file():
        raise UserError(f"feature shard {shard} is missing; run encode again, which makes it anew")
    sidecar = Sidecar.read(sidecar_file)
    size = shard.stat().st_size
    if size != sidecar.bytes or (verify and checksum(shard) != sidecar.crc32):
        what = f"{size} bytes instead of {sidecar.bytes}" if size != sidecar.bytes else "the checksum differs"
        raise UserError(
            f"feature shard {shard} is damaged ({what}); delete it and run encode again, which makes it anew"
        )
    return sidecar


def _runs(places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Stretches of consecutive layers: (place in the store, place among those asked for, how many)."""
    starts = [i for i, place in enumerate(places) if i == 0 or place != places[i - 1] + 1]
    return [(places[i], i, end - i) for i, end in zip(starts, [*starts[1:], len(places)], strict=True)]


def _memory(tensor: Tensor) -> memoryview:
    """The bytes of a contiguous tensor, to write to."""
    return tensor.view(-1).view(torch.uint8).numpy().data


@contextmanager
def _opened(shard: Path) -> Iterator[int]:
    """A shard's file descriptor. Whatever the system refuses becomes a sentence that names the shard."""
    try:
        file = os.open(shard, os.O_RDONLY)
        try:
            yield file
        finally:
            os.close(file)
    except FileNotFoundError:
        raise UserError(f"feature shard {shard} is missing; run encode again, which makes it anew") from None
    except EOFError:
        raise UserError(
            f"feature shard {shard} is damaged (it ends too early); delete it and run encode again, which makes it anew"
        ) from None
    except OSError as error:
        raise UserError(f"feature shard {shard} cannot be read: {error.strerror}") from None


def _read(file: int, offset: int, parts: list[memoryview]) -> None:
    """Fill `parts` one after the other with the bytes from `offset` on.

    The system may give less than it is asked for, as at 2 GB; an encoder has far fewer layers than the 1024 parts
    that it takes at once.

    Raises:
        EOFError: the file ends too early.
    """
    while parts:
        got = os.preadv(file, parts, offset)
        if not got:
            raise EOFError
        offset += got
        while parts and got >= len(parts[0]):
            got -= len(parts[0])
            parts = parts[1:]
        if got:
            parts = [parts[0][got:], *parts[1:]]

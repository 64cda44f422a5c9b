"""Read a feature store: every utterance is a slice of a memory-mapped shard."""

from __future__ import annotations

import json
from collections.abc import Sequence
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

_SAFETENSORS = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class FeatureStore:
    """Frame features of a corpus, as `encode` wrote them; open it with `FeatureStore.open`.

    Layers go by their number in the encoder, 1 to L as in arXiv 2410.03037; its embedding output would be 0.

    Attributes:
        path: the store's folder.
        header: what was encoded, by which encoder, into which layers and dtype.
        ids: the utterances, in the order in which they lie on disk.
        lengths: [utterances] int64, frames of each.
        skipped: the utterances that could not be encoded, with reasons.
    """

    def __init__(self, path: Path, header: dict[str, Any], shards: list[Path], sidecars: list[Sidecar]) -> None:
        self.path = path
        self.header = header
        self.skipped: list[Skipped] = read_skipped(path)
        self.ids: list[str] = [u["id"] for sidecar in sidecars for u in sidecar.utterances]
        frames = [[int(u["frames"]) for u in sidecar.utterances] for sidecar in sidecars]
        self.lengths = np.array([n for shard in frames for n in shard], dtype=np.int64)
        self._shards = shards
        self._shard_of = np.repeat(np.arange(len(shards)), [len(shard) for shard in frames])
        self._start = np.concatenate([np.cumsum([0, *shard])[:-1] for shard in frames])
        self._mapped: dict[int, Tensor] = {}

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
        sidecars = [_checked(shard, verify) for shard in shards]
        return cls(path, header, shards, sidecars)

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

    def read(self, index: int, layers: Sequence[int] | None = None) -> Tensor:
        """The features of one utterance: [frames, layers, dim] in the store's dtype.

        Args:
            index: its place in `ids`.
            layers: the numbers of the layers wanted; None means all. All of them, or consecutive ones, are a
                view of the mapped file; others are copied.

        Raises:
            UserError: a layer is not in the store.
        """
        shard, start = int(self._shard_of[index]), int(self._start[index])
        features = self._map(shard)[start : start + int(self.lengths[index])]
        if layers is None:
            return features
        places = self.places(layers)
        if places == list(range(places[0], places[0] + len(places))):
            return features[:, places[0] : places[0] + len(places)]
        return features[:, places]

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

    def __getstate__(self) -> dict[str, Any]:
        # A mapped file must not travel to another process as a copy; the other side maps it itself.
        return self.__dict__ | {"_mapped": {}}

    def _map(self, shard: int) -> Tensor:
        if shard not in self._mapped:
            self._mapped[shard] = _map_features(self._shards[shard])
        return self._mapped[shard]


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


def _map_features(path: Path) -> Tensor:
    """The tensor of a shard: [frames, layers, dim], mapped privately.

    torch maps the file and closes it. Python's mmap would keep it open, and a store of 64 GB would use up the
    usual limit of 1024 open files.
    """
    raw = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    start = 8 + int.from_bytes(raw[:8].numpy().tobytes(), "little")
    entry = json.loads(raw[8:start].numpy().tobytes())["features"]
    first, last = entry["data_offsets"]
    return raw[start + first : start + last].view(_SAFETENSORS[entry["dtype"]]).view(entry["shape"])

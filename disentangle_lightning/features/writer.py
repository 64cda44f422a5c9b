"""Write a feature store: shard by shard, one writer at a time, resumable after any interruption."""

from __future__ import annotations

import fcntl
import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from disentangle_lightning.corpus.manifest import Skipped
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import (
    COMPLETE,
    HEADER,
    LOCK,
    SHARDS,
    SKIPPED,
    Sidecar,
    check_header,
    read_json,
    sidecar_path,
    write_atomically,
)
from disentangle_lightning.features.quantization import DEQUANTIZED, STEPS, quantize

_LARGEST = torch.finfo(DEQUANTIZED).max / STEPS
"""The largest scale whose values can be read again."""


@dataclass(frozen=True)
class _Block:
    """An utterance as it is stored: values [frames, layers, dim] and, where they are int8, scales [frames, layers]."""

    id: str
    values: Tensor
    scales: Tensor | None

    @classmethod
    def of(cls, id: str, features: Tensor, quantized: bool) -> _Block:
        if not quantized:
            return cls(id, features, None)
        values, scales = quantize(features)
        if scales.max() > _LARGEST:
            raise UserError(
                f"features of utterance '{id}' do not fit int8, which is read as float16: the largest is "
                f"{features.abs().max():.0f}; delete the store and encode with dtype bfloat16"
            )
        return cls(id, values, scales)


class StoreWriter:
    """A store open for writing; use it as a context.

    Shards that an earlier run finished are kept. One whose file is missing, or has another size than its
    sidecar says, is dropped, and its utterances are wanted again.

    Args:
        path: the store's folder, made if need be.
        header: what the store holds; a header that is already there must agree.
        shard_bytes: a shard is closed once it has this many bytes of features.

    Attributes:
        finished: the ids that need no encoding any more.
        complete: whether an earlier run wrote everything.

    Raises:
        UserError: another process writes this store, its header differs, or the disk is full.
    """

    def __init__(self, path: str | Path, header: dict[str, Any], shard_bytes: int) -> None:
        self.path = Path(path)
        self._header = header
        self._shard_bytes = shard_bytes
        self._batch: list[_Block] = []
        self._bytes = 0

    def __enter__(self) -> StoreWriter:
        shards = self.path / SHARDS
        shards.mkdir(parents=True, exist_ok=True)
        self._lock = _lock(self.path)
        try:
            self._write_header()
            kept = {file: sidecar for file in shards.glob("*.json") if (sidecar := _intact(file))}
        except BaseException:
            self._lock.close()
            raise
        self._taken = set(kept)
        self.finished = {entry["id"] for sidecar in kept.values() for entry in sidecar.utterances}
        self._check_marker()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()

    def add(self, utterances: Sequence[tuple[str, Tensor]]) -> None:
        """Append utterances: (id, features [frames, layers, dim]), in the store's dtype, or float32 where that is int8.

        Returns once a full shard is on disk; whoever encodes goes on meanwhile in threads of its own. Killed at any
        instant, a run loses the shard that it was filling and what it had not handed in.

        A shard is closed between two calls only. What is handed in at once was encoded as one batch; so a run
        that resumes forms the same batches again, and the store gets the same bytes.

        Raises:
            UserError: a value is too large for int8.
        """
        blocks = [_Block.of(id, features, self._header.get("dtype") == "int8") for id, features in utterances]
        self._batch.extend(blocks)
        self._bytes += sum(block.values.nbytes for block in blocks)
        if self._bytes >= self._shard_bytes:
            self._flush()

    def finish(self, skipped: Sequence[Skipped]) -> None:
        """Write what is left, the list of skipped utterances, and the mark that the store is complete."""
        if self._batch:
            self._flush()
        lines = [json.dumps(asdict(skip)) + "\n" for skip in skipped]
        write_atomically(self.path / SKIPPED, "".join(lines).encode())
        write_atomically(self.path / COMPLETE, json.dumps({"shards": self._shard_names()}).encode())

    def _write_header(self) -> None:
        file = self.path / HEADER
        if file.exists():
            check_header(self.path, read_json(file), self._header)
        else:
            write_atomically(file, json.dumps(self._header, indent=1).encode())

    def _check_marker(self) -> None:
        marker = self.path / COMPLETE
        self.complete = marker.exists() and read_json(marker).get("shards") == self._shard_names()
        if not self.complete:
            marker.unlink(missing_ok=True)

    def _shard_names(self) -> list[str]:
        return sorted(file.with_suffix(".safetensors").name for file in self._taken)

    def _flush(self) -> None:
        names = (self.path / SHARDS / f"{number:05d}.json" for number in count())
        sidecar_file = next(name for name in names if name not in self._taken)
        batch, self._batch, self._bytes = self._batch, [], 0
        self._taken.add(sidecar_file)
        _write_shard(sidecar_file, batch)


def _lock(path: Path) -> IO[str]:
    file = (path / LOCK).open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(f"another process is writing feature store {path}; wait until it has ended") from None
    return file


def _intact(sidecar_file: Path) -> Sidecar | None:
    """The sidecar, if its shard is there in full; otherwise both are removed, and the shard is made again."""
    shard = sidecar_file.with_suffix(".safetensors")
    if shard.exists():
        sidecar = Sidecar.read(sidecar_file)
        if shard.stat().st_size == sidecar.bytes:
            return sidecar
        shard.unlink()
    sidecar_file.unlink()
    return None


def _write_shard(sidecar_file: Path, blocks: list[_Block]) -> None:
    tensors = {"features": _layer_major([block.values for block in blocks])}
    if scales := [block.scales for block in blocks if block.scales is not None]:
        tensors["scales"] = _layer_major(scales)
    data = safetensors.torch.save(tensors)
    shard = sidecar_file.with_suffix(".safetensors")
    write_atomically(shard, data)
    entries = [{"id": block.id, "frames": len(block.values)} for block in blocks]
    Sidecar(zlib.crc32(data), len(data), entries).write(sidecar_path(shard))


def _layer_major(parts: list[Tensor]) -> Tensor:
    """[frames, layers, ...] of each utterance -> [rows, ...], each utterance layer by layer."""
    return torch.cat([part.transpose(0, 1).flatten(0, 1) for part in parts])

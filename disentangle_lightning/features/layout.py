"""How a feature store lies on disk; the writer and the reader agree here.

    STORE/
        header.json                 what was encoded, by which encoder, into which layers and dtype
        shards/00000.safetensors    one tensor `features` [rows, dim]: utterances end to end, each layer by layer,
                                    [layers, frames, dim]; for int8 also `scales` [rows] float32
        shards/00000.json           its checksum, its size, and whose frames they are; written after the shard
        skipped.jsonl               the utterances left out, each with a reason
        complete.json               the names of the shards; written last

One layer of an utterance, or consecutive ones, are one stretch of a file: reading a few layers costs a few layers.
Safetensors holds numbers only, so nothing that is loaded can run code.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from disentangle_lightning.corpus.manifest import Skipped
from disentangle_lightning.errors import UserError

FORMAT = 2
"""The layout's version; a store of another version is refused."""

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}
"""What features are stored as."""

WRITTEN_DTYPES = DTYPES | {"int8": torch.float32}
"""What the writer takes them in: it quantises by itself."""

HEADER = "header.json"
SHARDS = "shards"
SKIPPED = "skipped.jsonl"
COMPLETE = "complete.json"
LOCK = ".lock"

_NOT_COMPARED = ("name", "revision", "transformers")
"""Entries of an encoder's identity that may differ: the fingerprint knows the weights under any name."""


@dataclass(frozen=True)
class Sidecar:
    """What stands beside a shard: zlib CRC-32 and size in bytes of its file, and its utterances in order."""

    crc32: int
    bytes: int
    utterances: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Sidecar:
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise UserError(
                f"feature shard index {path} is damaged; delete it and run encode again, which makes it anew"
            ) from None

    def write(self, path: Path) -> None:
        write_atomically(path, json.dumps(asdict(self)).encode())


def sidecar_path(shard: Path) -> Path:
    """Where the sidecar of a shard is."""
    return shard.with_suffix(".json")


def checksum(path: Path) -> int:
    """The zlib CRC-32 of a file."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc = zlib.crc32(block, crc)
    return crc


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of the store, or a UserError that names the damaged file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it holds no JSON object; delete the store and run encode again")
    return content


def read_skipped(store: Path) -> list[Skipped]:
    """The utterances that the store left out."""
    file = store / SKIPPED
    if not file.exists():
        return []
    return [Skipped(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]


def write_atomically(path: Path, data: bytes) -> None:
    """Write a whole file or none: a reader never sees half of it, not even after a power cut.

    Raises:
        UserError: the disk is full.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full, {path} could not be written; free some space and run encode again, "
                "which goes on where it stopped"
            ) from None
        raise


def check_header(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse a store that was made by another encoder, from other audio, or in another form.

    Library versions are a record, not a condition.

    Raises:
        UserError: names the first entry that differs, and both values.
    """
    for name, old, new in _compared(found, expected):
        if old != new:
            raise UserError(
                f"feature store {path} was made with {name} {old}, but this run has {new}; "
                "name another store, or delete this one and run encode again"
            )


def _compared(found: dict[str, Any], expected: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    entries = [
        (name, found.get(name), expected[name])
        for name in ("format", "manifest_sha256", "precision", "dtype", "layers", "dim", "frame_rate")
    ]
    old, new = found.get("encoder", {}), expected["encoder"]
    # The fingerprint first: where it differs, it is the reason for every other difference.
    names = sorted((set(old) | set(new)) - set(_NOT_COMPARED), key=lambda name: (name != "fingerprint", name))
    return entries[:1] + [(f"encoder {name}", old.get(name), new.get(name)) for name in names] + entries[1:]

"""What is written for sound files, one writer at a time, resumable after any interruption.

OUT/
    ID.safetensors    z_textual, z_acoustic_TASK, attention_textual_TASK, attention_acoustic_TASK
    index.jsonl       a line for each, written after it: id, audio (relative to OUT), transcript,
                      predictions {task: {class, probability}}, frames, frame_rate
    skipped.jsonl     the files that the last run could not use, each with a reason
    model.json        the fingerprint of the model that made it all
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import safetensors.torch

from disentangle_lightning.corpus.manifest import Skipped
from disentangle_lightning.deployment.sound_files import SoundFile
from disentangle_lightning.deployment.stages import Disentangled
from disentangle_lightning.errors import UserError

INDEX = "index.jsonl"
SKIPPED = "skipped.jsonl"
MODEL = "model.json"


@dataclass(frozen=True)
class DisentangleSummary:
    """What a run did; as text, ready to be shown.

    Attributes:
        out: the folder that was written to.
        written: how many files this run took apart.
        kept: how many an earlier run had finished.
        skipped: what could not be used, and why.
    """

    out: Path
    written: int
    kept: int
    skipped: list[Skipped]

    def __str__(self) -> str:
        kept = f", {self.kept} were there already" if self.kept else ""
        files = "file" if self.written == 1 else "files"
        lines = [f"{self.written} {files} disentangled into {self.out}{kept}, {len(self.skipped)} skipped"]
        return "\n".join(lines + [f"  skipped {skip.id}: {skip.reason}" for skip in self.skipped])


class OutputFolder:
    """A folder of outputs, open for writing; use it as a context.

    Args:
        path: the folder; made if need be.
        fingerprint: of the model; outputs of another model are not added to.

    Raises:
        UserError: another process writes there, another model did, its index is damaged, or a file cannot be
            written.
    """

    def __init__(self, path: Path, fingerprint: str) -> None:
        self.path = path
        self._fingerprint = fingerprint

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._index = (self.path / INDEX).open("a+b")
        except OSError as error:
            raise UserError(f"folder {self.path} cannot be written: {error.strerror}") from None
        try:
            self._lock()
            self._check_model()
            entries = self._read_index()
        except BaseException:
            self._index.close()
            raise
        self._finished = {entry["audio"] for entry in entries}
        # In lower case: some file systems hold A.safetensors and a.safetensors to be the same.
        self._taken = {entry["id"].lower() for entry in entries}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._index.close()

    def holds(self, audio: Path) -> bool:
        """Whether the outputs of a sound file are finished."""
        return self._relative(audio) in self._finished

    def reserve(self, sound: SoundFile) -> str:
        """The id to write under: the sound file's own, with a number behind it where that is taken."""
        id, number = sound.id, 1
        while id.lower() in self._taken:
            number += 1
            id = f"{sound.id}-{number}"
        self._taken.add(id.lower())
        return id

    def add(self, id: str, audio: Path, speech: Disentangled) -> None:
        """Write what a sound file holds, then its line in the index."""
        tensors = {"z_textual": speech.z_textual}
        tensors |= {f"z_acoustic_{task}": z for task, z in speech.z_acoustic.items()}
        for task, streams in speech.attention.items():
            tensors |= {f"attention_{stream}_{task}": weights for stream, weights in streams.items()}
        data = safetensors.torch.save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
        self._write(self._file(id), data)
        predictions = {
            task: {"class": label, "probability": probability}
            for task, (label, probability) in speech.predictions.items()
        }
        line = {
            "id": id,
            "audio": self._relative(audio),
            "transcript": speech.transcript,
            "predictions": predictions,
            "frames": len(speech.z_textual),
            "frame_rate": speech.frame_rate,
        }
        self._append([line])

    def write_skipped(self, skipped: Sequence[Skipped]) -> None:
        """Replace the list of what could not be used."""
        self._write(self.path / SKIPPED, _json_lines({"audio": s.id, "reason": s.reason} for s in skipped))

    def _file(self, id: str) -> Path:
        # Not with_suffix, which would take "b" off an id "a.b".
        return self.path / f"{id}.safetensors"

    def _relative(self, audio: Path) -> str:
        return Path(os.path.relpath(audio.resolve(), self.path.resolve())).as_posix()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._index, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another process is writing to {self.path}; wait until it has ended") from None

    def _check_model(self) -> None:
        file = self.path / MODEL
        if not file.exists():
            self._write(file, _json_lines([{"fingerprint": self._fingerprint}]))
        elif file.read_bytes() != _json_lines([{"fingerprint": self._fingerprint}]):
            raise UserError(f"folder {self.path} holds what another model made; name another one with --out")

    def _read_index(self) -> list[dict[str, Any]]:
        """The finished files: whole lines of files that are still there; what else there is, is taken out."""
        self._index.seek(0)
        content = self._index.read()
        *lines, _torn = content.split(b"\n")
        try:
            entries = [json.loads(line) for line in lines]
            finished = [entry for entry in entries if self._file(entry["id"]).is_file() and entry["audio"]]
        except (ValueError, TypeError, KeyError):
            raise UserError(f"{self.path / INDEX} is damaged; name another folder, or delete this one") from None
        if _json_lines(finished) != content:
            self._index.truncate(0)
            self._append(finished)
        return finished

    def _append(self, records: Iterable[dict[str, Any]]) -> None:
        try:
            self._index.write(_json_lines(records))
            self._index.flush()
        except OSError as error:
            raise UserError(f"{self.path / INDEX} cannot be written: {error.strerror}") from None

    def _write(self, path: Path, data: bytes) -> None:
        """The whole file or none of it."""
        temporary = path.with_name(path.name + ".tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise UserError(f"{path} cannot be written: {error.strerror}") from None


def _json_lines(records: Iterable[dict[str, Any]]) -> bytes:
    # A file name that is not UTF-8 has characters that cannot be encoded; a JSON escape keeps them.
    text = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    return text.encode(errors="backslashreplace")

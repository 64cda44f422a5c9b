"""The manifest: one utterance a line, the only description of a corpus that the rest of the house knows."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError

SPLITS = ("train", "probe", "dev", "test")
"""Stages train on `train`; probes train on `probe`, which no stage has seen; both are selected on `dev`;
every published figure comes from `test`."""

TRAINING_SPLITS = ("train", "probe")
"""Alphabet and classes come from both, so that stages and probes agree on every id."""

_FIELDS = ("id", "audio", "start", "duration", "transcription", "speaker", "split")


@dataclass(frozen=True)
class Utterance:
    """One stretch of speech.

    Attributes:
        id: unique in the manifest.
        audio: the sound file, absolute once read.
        start: where the utterance begins in the file, in seconds.
        duration: its length in seconds; None means to the end of the file.
        transcription: what was said; None where nobody wrote it down.
        speaker: who said it; None where unknown.
        split: one of `SPLITS`, or None before `assign_splits`.
        labels: everything else that is known, by name (emotion, gender, accent, intent...).
    """

    id: str
    audio: Path
    start: float = 0.0
    duration: float | None = None
    transcription: str | None = None
    speaker: str | None = None
    split: str | None = None
    labels: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.labels.keys() & set(_FIELDS):
            raise UserError(f"utterance '{self.id}': a label cannot be called '{name}', a field of the manifest")

    def label(self, name: str) -> str | None:
        """The value of a label, or None where it is missing; `speaker` is a label like any other."""
        return self.speaker if name == "speaker" else self.labels.get(name)


@dataclass(frozen=True)
class Skipped:
    """An utterance that was left out, and the reason in words."""

    id: str
    reason: str


@dataclass(frozen=True)
class Corpus:
    """What a reader found: the utterances, and what it had to leave out."""

    utterances: list[Utterance]
    skipped: list[Skipped] = field(default_factory=list)


def read_manifest(path: str | Path) -> list[Utterance]:
    """Read and check a JSONL manifest; audio paths are relative to its folder.

    Raises:
        UserError: the file is missing or empty, or a line is not JSON, lacks `id` or `audio`, repeats an id,
            has an empty transcription, an unknown split, a negative start, a duration that is not above zero,
            or a label that is neither text, whole number nor flag.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"manifest {path} does not exist; make it with a corpus reader or name another file")
    utterances: list[Utterance] = []
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"manifest {path} is not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        utterance = _parse_line(line, f"{path}, line {number}", path.parent)
        if utterance.id in seen:
            raise UserError(
                f"{path}, line {number}: id '{utterance.id}' was already used on line {seen[utterance.id]}; "
                "ids must be unique"
            )
        seen[utterance.id] = number
        utterances.append(utterance)
    if not utterances:
        raise UserError(f"manifest {path} has no utterances")
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write a manifest atomically, audio paths relative to its folder."""
    path = Path(path)
    lines = [json.dumps(_to_json(u, path.parent), ensure_ascii=False) + "\n" for u in utterances]
    write_text(path, "".join(lines))


def audio_hash(utterances: Sequence[Utterance], relative_to: Path) -> str:
    """SHA-256 of what decides the features: ids, files and cuts, in order; not labels and splits."""
    digest = hashlib.sha256()
    for u in utterances:
        audio = Path(os.path.relpath(u.audio, relative_to)).as_posix()
        digest.update(json.dumps([u.id, audio, u.start, u.duration]).encode())
    return digest.hexdigest()


def _parse_line(line: str, where: str, folder: Path) -> Utterance:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}); a manifest has one JSON object a line") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
    for name in ("id", "audio"):
        if not isinstance(record.get(name), str) or not record[name]:
            raise UserError(f"{where}: field '{name}' is missing or not text")
    where = f"{where} ({record['id']})"
    transcription = record.get("transcription")
    if transcription is not None and (not isinstance(transcription, str) or not transcription.strip()):
        raise UserError(f"{where}: field 'transcription' is empty; write the words, or leave the field out")
    split = record.get("split")
    if split is not None and split not in SPLITS:
        raise UserError(f"{where}: field 'split' is '{split}'; expected one of {', '.join(SPLITS)}")
    speaker = record.get("speaker")
    duration = None if record.get("duration") is None else _seconds(record["duration"], "duration", where)
    if duration == 0:
        raise UserError(f"{where}: field 'duration' is zero; leave it out to read to the end of the file")
    return Utterance(
        id=record["id"],
        audio=Path(os.path.normpath(folder.absolute() / record["audio"])),
        start=_seconds(record.get("start", 0.0), "start", where),
        duration=duration,
        transcription=transcription,
        speaker=None if speaker is None else _label(speaker, "speaker", where),
        split=split,
        labels={k: _label(v, k, where) for k, v in record.items() if k not in _FIELDS and v is not None},
    )


def _seconds(value: Any, name: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise UserError(f"{where}: field '{name}' is {value!r}; expected seconds, zero or more")
    return float(value)


def _label(value: Any, name: str, where: str) -> str:
    if isinstance(value, str | bool | int):
        return str(value)
    raise UserError(f"{where}: label '{name}' is {value!r}; expected text, a whole number or true/false")


def _to_json(utterance: Utterance, folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "id": utterance.id,
        "audio": Path(os.path.relpath(utterance.audio, folder.absolute())).as_posix(),
    }
    if utterance.start:
        record["start"] = utterance.start
    for name in ("duration", "transcription", "speaker", "split"):
        if (value := getattr(utterance, name)) is not None:
            record[name] = value
    return record | utterance.labels

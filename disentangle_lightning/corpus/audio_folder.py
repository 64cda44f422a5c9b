"""Any folder of sound files with a table beside them: the Hugging Face AudioFolder convention."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.errors import UserError

METADATA_FILES = ("metadata.csv", "metadata.jsonl")

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "probe": "probe",
    "dev": "dev", "val": "dev", "valid": "dev", "validation": "dev",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
"""The Hub's names for splits, and ours."""

TRANSCRIPTION_COLUMNS = ("transcription", "text", "sentence")
SPEAKER_COLUMNS = ("speaker", "speaker_id")
_MANIFEST_COLUMNS = ("id", "audio", "start", "duration")


@dataclass(frozen=True)
class _Row:
    where: str
    folder: PurePosixPath
    cells: dict[str, str]


class AudioFolder:
    """A corpus reader for a folder of sound files with `metadata.csv` or `metadata.jsonl`.

    The metadata lies in the folder itself or in each of its split sub-folders (`train`, `validation`, `test`,
    and the Hub's other names for them). Its columns:

    - `file_name`: the sound file, relative to the metadata file. Required. A clip is a whole file.
    - `transcription`, `text` or `sentence`: what was said. The first of them that exists is used.
    - `speaker` or `speaker_id`: who said it.
    - `split`: a split's name. Where it is missing, the sub-folder of the sound file decides.
    - every other column is a label; an empty cell is a missing label. `id`, `audio`, `start` and `duration`,
      which mean something else in a manifest, and columns without a name are not read.

    Ids are the sound files' paths in the folder, without extension: `train/0_george_10`. A file that does not
    exist and a row whose transcription is empty are skipped and listed.

    Args:
        folder: the folder.

    Raises:
        UserError: the folder or its metadata is missing, empty, damaged or ambiguous, lacks `file_name`,
            names a file twice or outside the folder, or has an unknown split; or not one file can be used.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)

    def read(self) -> Corpus:
        """Read the metadata; the sound files are only looked for, not opened."""
        rows = [row for file in self._metadata_files() for row in _read_rows(file, self.folder)]
        columns = {name for row in rows for name in row.cells}
        transcription = next((name for name in TRANSCRIPTION_COLUMNS if name in columns), None)
        speaker = next((name for name in SPEAKER_COLUMNS if name in columns), None)

        utterances: list[Utterance] = []
        skipped: list[Skipped] = []
        seen: dict[str, str] = {}
        for row in rows:
            path = _path_in_folder(row)
            id = str(path.with_suffix(""))
            if id in seen:
                raise UserError(
                    f"{row.where}: '{path}' and '{seen[id]}' would both be utterance '{id}'; "
                    "list each file once, and let names differ in more than their extension"
                )
            seen[id] = str(path)
            if not (self.folder / path).is_file():
                skipped.append(Skipped(id, f"audio file {self.folder / path} does not exist"))
                continue
            if transcription and not row.cells.get(transcription):
                skipped.append(Skipped(id, f"column '{transcription}' is empty"))
                continue
            taken = {"file_name", "split", transcription, speaker, *_MANIFEST_COLUMNS}
            utterances.append(
                Utterance(
                    id=id,
                    audio=(self.folder / path).absolute(),
                    transcription=row.cells.get(transcription) if transcription else None,
                    speaker=(row.cells.get(speaker) or None) if speaker else None,
                    split=_split(row, path),
                    labels={name: value for name, value in row.cells.items() if value and name not in taken},
                )
            )
        if not utterances:
            raise UserError(
                f"audio folder {self.folder} has no utterance that can be used; "
                f"the first of {len(skipped)} problems: {skipped[0].reason}"
            )
        return Corpus(utterances, skipped)

    def _metadata_files(self) -> list[Path]:
        if not self.folder.is_dir():
            raise UserError(f"audio folder {self.folder} does not exist")
        own = _metadata_file(self.folder)
        splits = sorted(p for p in self.folder.iterdir() if p.is_dir() and p.name.lower() in SPLIT_NAMES)
        of_splits = {split: _metadata_file(split) for split in splits}
        found = [file for file in of_splits.values() if file is not None]
        if own is not None:
            if found:
                raise UserError(f"{own} and {found[0]} both describe the folder; keep one of them")
            return [own]
        if not found:
            raise UserError(
                f"audio folder {self.folder} has no {' or '.join(METADATA_FILES)}, neither itself nor in a "
                "sub-folder train, validation or test"
            )
        for split, file in of_splits.items():
            if file is None:
                raise UserError(f"sub-folder {split} has no {' or '.join(METADATA_FILES)}, while {found[0]} exists")
        return found


def _metadata_file(folder: Path) -> Path | None:
    found = [folder / name for name in METADATA_FILES if (folder / name).is_file()]
    if len(found) > 1:
        raise UserError(f"folder {folder} has both {' and '.join(METADATA_FILES)}; keep one of them")
    return found[0] if found else None


def _read_rows(file: Path, root: Path) -> list[_Row]:
    try:
        records = _read_csv(file) if file.suffix == ".csv" else _read_jsonl(file)
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; save it again as UTF-8") from None
    folder = PurePosixPath(file.parent.relative_to(root).as_posix())
    if not records:
        raise UserError(f"{file} has no rows")
    for where, cells in records:
        if not cells.get("file_name"):
            raise UserError(f"{where}: column 'file_name' is missing or empty; found {', '.join(cells) or 'nothing'}")
    return [_Row(where, folder, cells) for where, cells in records]


def _read_csv(file: Path) -> list[tuple[str, dict[str, str]]]:
    # utf-8-sig: spreadsheets begin a CSV with a byte-order mark. strict: a quote that is never closed would
    # otherwise swallow the rest of the file into one cell.
    with file.open(encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            if "file_name" not in header:
                hint = "; cells are separated by commas" if len(header) == 1 and "file_name" in header[0] else ""
                columns = ", ".join(map(repr, header)) or "none"
                raise UserError(f"{file} has no column 'file_name'; its columns are: {columns}{hint}")
            if twice := {name for name in header if name and header.count(name) > 1}:
                raise UserError(f"{file} has two columns '{min(twice)}'")
            records = []
            for row in reader:
                if not row:
                    continue
                where = f"{file}, line {reader.line_num}"
                if len(row) != len(header):
                    raise UserError(f"{where}: {len(row)} cells under {len(header)} columns")
                cells = {name: cell.strip() for name, cell in zip(header, row, strict=True) if name}
                records.append((where, cells))
        except csv.Error as error:
            raise UserError(f"{file}, line {reader.line_num}: not CSV ({error})") from None
    return records


def _read_jsonl(file: Path) -> list[tuple[str, dict[str, str]]]:
    records = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg}); one JSON object a line is expected") from None
        if not isinstance(record, dict):
            raise UserError(f"{where}: expected a JSON object, found {type(record).__name__}")
        cells = {k.strip(): _cell(v, k, where) for k, v in record.items() if k not in _MANIFEST_COLUMNS}
        records.append((where, cells))
    return records


def _cell(value: Any, name: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str | bool | int | float):
        return str(value).strip()
    raise UserError(f"{where}: column '{name}' holds a {type(value).__name__}; expected text or a number")


def _path_in_folder(row: _Row) -> PurePosixPath:
    """The sound file's path relative to the folder, without `..`; refused where it leads outside."""
    path = PurePosixPath(os.path.normpath(row.folder / row.cells["file_name"]))
    if path.is_absolute() or path.parts[:1] in ((), ("..",)):
        raise UserError(f"{row.where}: file_name '{row.cells['file_name']}' leads out of the folder")
    return path


def _split(row: _Row, path: PurePosixPath) -> str | None:
    named = row.cells.get("split")
    if named:
        if named.lower() not in SPLIT_NAMES:
            raise UserError(f"{row.where}: split '{named}' is unknown; expected one of {', '.join(SPLIT_NAMES)}")
        return SPLIT_NAMES[named.lower()]
    return SPLIT_NAMES.get(path.parts[0].lower()) if len(path.parts) > 1 else None

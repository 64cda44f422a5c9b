"""Kaldi data directories: wav.scp, segments, text, utt2spk and spk2gender."""

from __future__ import annotations

from pathlib import Path

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import SPLITS, Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import usable
from disentangle_lightning.errors import UserError


class KaldiData:
    """A corpus reader for Kaldi data directories.

    - `wav.scp`: `RECORDING PATH`. A command (`sph2pipe ... |`) is refused: nothing that a table says is run.
    - `segments`: `UTTERANCE RECORDING START END`, in seconds; an END of -1 is the end of the file. Without this file
      each recording is an utterance.
    - `text`: `UTTERANCE WORDS...`. Where the file is there, an utterance without words is skipped.
    - `utt2spk`: `UTTERANCE SPEAKER`; `spk2gender`: `SPEAKER m|f`, the label gender.

    Ids are Kaldi's.

    Args:
        folder: a data directory, whose utterances then have no split; or one for each split, such as
            `{train: data/train_clean_100, dev: data/dev_clean, test: data/test_clean}`.
        root: what paths in wav.scp are relative to; with Kaldi, the folder that the recipe was run in.

    Raises:
        UserError: a folder or its wav.scp is missing, a line cannot be read, an id occurs twice, a recording is a
            command or an archive, or not one utterance can be used.
    """

    # Not lhotse's load_kaldi_data_dir: it opens every sound file, runs the commands, and wants one rate for all.

    def __init__(self, folder: str | dict[str, str], root: str = ".") -> None:
        self.folders = by_split(folder, "folder")
        self.root = Path(root).absolute()

    def read(self) -> Corpus:
        """Read the tables; the sound files are only looked for."""
        found = Corpus([])
        for split, folder in self.folders.items():
            self._read_folder(Path(folder), split, found)
        return usable(found, f"Kaldi data {', '.join(self.folders.values())}")

    def _read_folder(self, folder: Path, split: str | None, found: Corpus) -> None:
        if not (folder / "wav.scp").is_file():
            raise UserError(f"folder {folder} has no wav.scp; give a Kaldi data directory, such as data/train")
        recordings = {name: self._audio(name, value, folder) for name, value in _table(folder / "wav.scp").items()}
        segments = folder / "segments"
        utterances = _table(segments) if segments.is_file() else {name: name for name in recordings}
        texts = _table(folder / "text") if (folder / "text").is_file() else None
        speakers, genders = _table(folder / "utt2spk"), _table(folder / "spk2gender")
        for id, cut in utterances.items():
            start, duration = 0.0, None
            recording = cut
            if segments.is_file():
                recording, start, duration = _cut(cut, f"{segments}, utterance '{id}'")
            if recording not in recordings:
                found.skipped.append(Skipped(id, f"its recording '{recording}' is not in {folder / 'wav.scp'}"))
            elif not (audio := recordings[recording]).is_file():
                found.skipped.append(Skipped(id, f"audio file {audio} does not exist"))
            elif texts is not None and not texts.get(id):
                found.skipped.append(Skipped(id, f"has no words in {folder / 'text'}"))
            else:
                speaker = speakers.get(id) or None
                gender = gender_word(genders.get(speaker or "", ""))
                labels = {"gender": gender} if gender else {}
                words = texts[id] if texts is not None else None
                found.utterances.append(Utterance(id, audio, start, duration, words, speaker, split, labels))

    def _audio(self, recording: str, path: str, folder: Path) -> Path:
        where = f"{folder / 'wav.scp'}: recording '{recording}'"
        if path.endswith("|"):
            raise UserError(
                f"{where} is a command ('{path}'), which is not run; write its output to a sound file and name that"
            )
        # An offset into an archive of many sounds is what extract-segments and wav-copy write.
        if path.rpartition(":")[2].isdecimal() or not path or path == "-":
            raise UserError(f"{where} is '{path}', which is no sound file; write it to one and name that")
        return self.root / path


def by_split(value: str | dict[str, str], field: str) -> dict[str | None, str]:
    """{split: path} of one path, which then has no split, or of one for each split."""
    if isinstance(value, str):
        return {None: value}
    if not isinstance(value, dict) or not value or not value.keys() <= set(SPLITS):
        raise UserError(f"field '{field}' is {value!r}; expected a path, or paths by split: {', '.join(SPLITS)}")
    for split, path in value.items():
        if not isinstance(path, str):
            raise UserError(f"field '{field}.{split}' is {path!r}; expected a path")
    return {split: value[split] for split in value}


def _table(file: Path) -> dict[str, str]:
    """{key: the rest of the line}; empty where the file does not exist."""
    if not file.is_file():
        return {}
    table: dict[str, str] = {}
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        if cells := line.split(maxsplit=1):
            if cells[0] in table:
                raise UserError(f"{file}, line {number}: '{cells[0]}' was already there; keys must be unique")
            table[cells[0]] = cells[1].strip() if len(cells) > 1 else ""
    return table


def _cut(cells: str, where: str) -> tuple[str, float, float | None]:
    """The recording, start and duration of a line of `segments`."""
    fields = cells.split()
    try:
        recording, start, end = fields[0], float(fields[1]), float(fields[2])
    except (ValueError, IndexError):
        raise UserError(f"{where}: '{cells}' is not RECORDING START END") from None
    if len(fields) > 3:
        raise UserError(f"{where}: names a channel; write each channel to a sound file of its own")
    if end == -1 and start >= 0:
        return recording, start, None
    if not 0 <= start < end < float("inf"):
        raise UserError(f"{where}: '{cells}' does not end after it starts")
    return recording, start, end - start

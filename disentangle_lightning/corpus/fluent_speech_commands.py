"""Fluent Speech Commands: spoken orders to a smart home, labelled with what they ask for."""

from __future__ import annotations

import csv
from pathlib import Path

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import usable
from disentangle_lightning.errors import UserError

_NAME = "fluent_speech_commands_dataset"
_SPLITS = {"train": "train", "valid": "dev", "test": "test"}
_SPEAKER_LABELS = {
    "gender": "gender",
    "ageRange": "age",
    "First Language spoken": "first_language",
    "Self-reported fluency level": "fluency",
}
"""Columns of speaker_demographics.csv, and our labels."""


class FluentSpeechCommands:
    """A corpus reader for Fluent Speech Commands: 30,043 English commands of 97 speakers with 31 intents.

    The archive unpacks to `fluent_speech_commands_dataset` with `data/train_data.csv`, `valid_data.csv`,
    `test_data.csv` and `speaker_demographics.csv`, and `wavs/speakers/SPEAKER/CLIP.wav`. The splits are the official
    ones, which share no speaker but all sentences.

    Labels: intent (action, object and location together, such as `activate-lights-kitchen`), action, object, location;
    and of the speaker, where known, gender, age (`22-40`), first_language and fluency.

    Args:
        folder: the folder `fluent_speech_commands_dataset`.

    Raises:
        UserError: the folder has another name or lacks a table, a table has other columns, or not one clip can be used.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).absolute()

    def read(self) -> Corpus:
        """Read the three tables and the speakers; the sound files are only looked for."""
        from torchaudio.datasets import FluentSpeechCommands as Published

        tables = [self.folder / "data" / f"{subset}_data.csv" for subset in _SPLITS]
        if self.folder.name != _NAME or not all(table.is_file() for table in tables):
            raise UserError(
                f"folder {self.folder} is not called {_NAME} or has no data/train_data.csv, data/valid_data.csv and "
                "data/test_data.csv; give the folder itself to which the archive unpacks"
            )
        speakers = _read_speakers(self.folder / "data" / "speaker_demographics.csv")
        found = Corpus([])
        for (subset, split), table in zip(_SPLITS.items(), tables, strict=True):
            published = Published(self.folder.parent, subset)
            for n in range(len(published)):
                try:
                    path, _, _, speaker, text, action, object, location = published.get_metadata(n)
                except (ValueError, IndexError):
                    raise UserError(
                        f"{table}, row {n + 1}: expected the columns path, speakerId, transcription, action, object "
                        "and location after the row's number, as published"
                    ) from None
                id = path.removesuffix(".wav")
                intent = {"action": action, "object": object, "location": location}
                if not (self.folder / path).is_file():
                    found.skipped.append(Skipped(id, f"audio file {self.folder / path} does not exist"))
                elif not text.strip():
                    found.skipped.append(Skipped(id, f"has no transcription in {table}"))
                else:
                    labels = {"intent": "-".join(intent.values())} | intent | speakers.get(str(speaker), {})
                    found.utterances.append(
                        Utterance(id, self.folder / path, 0.0, None, text.strip(), str(speaker), split, labels)
                    )
        return usable(found, f"folder {self.folder}")


def _read_speakers(file: Path) -> dict[str, dict[str, str]]:
    """{speaker: labels}; empty where the file does not exist."""
    if not file.is_file():
        return {}
    speakers: dict[str, dict[str, str]] = {}
    with file.open(encoding="utf-8-sig", newline="") as text:
        for row in csv.DictReader(text):
            cells = {(name or "").strip(): (cell or "").strip() for name, cell in row.items() if isinstance(cell, str)}
            labels = {label: cells[name] for name, label in _SPEAKER_LABELS.items() if cells.get(name)}
            if gender := gender_word(labels.pop("gender", "")):
                labels["gender"] = gender
            speakers[cells.get("speakerId", "")] = labels
    return speakers

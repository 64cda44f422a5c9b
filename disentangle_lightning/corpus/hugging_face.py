"""Data sets of the Hugging Face Hub, or of a folder that its library `datasets` reads."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from disentangle_lightning.corpus.audio_folder import SPEAKER_COLUMNS, SPLIT_NAMES, TRANSCRIPTION_COLUMNS
from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import usable
from disentangle_lightning.errors import UserError

_MANIFEST_COLUMNS = ("id", "audio", "start", "duration", "split", "transcription", "speaker")


class HuggingFaceDataset:
    """A corpus reader for everything that `datasets` loads: a repository of the Hub, or a folder with Parquet or Arrow
    files, sound files and metadata, WebDataset archives, or what `save_to_disk` wrote.

    A row is an utterance. Its audio column is not decoded: a sound file that is there is used where it is, and audio
    that the data set holds as bytes is written once to `cache`, under the SHA-256 of its content. Other columns of
    text, whole numbers, flags or classes are labels; `id`, `start` and the like, which mean something else in a
    manifest, are not read, nor is a float.

    Splits are named by the first word of the Hub's: `train.clean.100` is train, `validation` dev; others (`all`) are
    none. A data set with a single split is called `train` by the Hub. Ids are the split and the row, `train/000042`.

    Args:
        dataset: a folder, or the id of a repository, such as `google/fleurs`.
        config: the name of a configuration, where the repository has several (`en_us`).
        revision: a branch, tag or commit of the repository.
        splits: which of the data set's own splits to read; None reads all.
        transcription: the column with what was said; by default the first of transcription, text and sentence. If it
            is there, a row without text is skipped.
        speaker: the column with who said it; by default the first of speaker and speaker_id.
        cache: a folder for sound that comes as bytes; needed only then.

    Raises:
        UserError: datasets is not installed, nothing can be loaded, a split or column does not exist, there is no audio
            column or more than one, `cache` is needed and missing, or not one row can be used.
    """

    def __init__(
        self,
        dataset: str,
        config: str | None = None,
        revision: str | None = None,
        splits: list[str] | None = None,
        transcription: str | None = None,
        speaker: str | None = None,
        cache: str | None = None,
    ) -> None:
        self.dataset = dataset
        self.config = config
        self.revision = revision
        self.splits = splits
        self.transcription = transcription
        self.speaker = speaker
        self.cache = None if cache is None else Path(cache).absolute()

    def read(self) -> Corpus:
        """Load the data set, downloading what is not there, and read every row of it."""
        loaded = self._load()
        if missing := [name for name in self.splits or () if name not in loaded]:
            raise UserError(f"data set {self.dataset} has no split '{missing[0]}'; it has {', '.join(loaded)}")
        found = Corpus([])
        for name, table in loaded.items():
            if self.splits is None or name in self.splits:
                self._read_split(name, table, found)
        return usable(found, f"data set {self.dataset}")

    def _load(self) -> dict[str, Any]:
        """{split: datasets.Dataset}"""
        try:
            import datasets
        except ImportError:
            raise UserError("HuggingFaceDataset needs the package datasets; pip install 'datasets>=5'") from None
        folder = Path(self.dataset)
        try:
            if any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                loaded = datasets.load_from_disk(self.dataset)
            else:
                with _audio_as_it_is():
                    loaded = datasets.load_dataset(self.dataset, self.config, revision=self.revision)
        # RuntimeError: a repository with a loading script, which datasets no longer runs.
        except (datasets.exceptions.DatasetsError, OSError, ValueError, RuntimeError, ImportError) as error:
            reason = str(error.__cause__ or error).strip().split("\n")[0].rstrip(".")
            what = "folder" if folder.is_dir() else "data set (no folder of that name is here, so the Hub was asked)"
            raise UserError(f"{what} {self.dataset} cannot be loaded by datasets: {reason}") from None
        if isinstance(loaded, datasets.Dataset):
            return {str(loaded.split or "all"): loaded}
        return {str(name): table for name, table in loaded.items()}

    def _read_split(self, name: str, table: Any, found: Corpus) -> None:
        from datasets import Audio

        audio = self._audio_column(table.features)
        transcription = self._column(self.transcription, TRANSCRIPTION_COLUMNS, "transcription", table.features)
        speaker = self._column(self.speaker, SPEAKER_COLUMNS, "speaker", table.features)
        labels = [c for c in table.features if c not in (audio, transcription, speaker, *_MANIFEST_COLUMNS)]
        labels = [column for column in labels if _is_label(table.features[column])]
        wanted = [audio, *labels, *(c for c in (transcription, speaker) if c)]
        table = table.select_columns(wanted).cast_column(audio, Audio(decode=False))
        split = SPLIT_NAMES.get(re.split(r"[^a-zA-Z]", name)[0].lower())
        for number, row in enumerate(table):
            id = f"{name}/{number:06d}"
            cells = {c: _text(row[c], table.features[c]) for c in wanted if c != audio}
            if "gender" in cells:
                cells["gender"] = gender_word(cells["gender"]) or ""
            if transcription and not cells[transcription]:
                found.skipped.append(Skipped(id, f"column '{transcription}' is empty"))
                continue
            file = self._sound_file(row[audio] or {})
            if isinstance(file, str):
                found.skipped.append(Skipped(id, file))
                continue
            found.utterances.append(
                Utterance(
                    id=id,
                    audio=file,
                    transcription=cells[transcription] if transcription else None,
                    speaker=(cells[speaker] or None) if speaker else None,
                    split=split,
                    labels={c: cells[c] for c in labels if cells[c]},
                )
            )

    def _audio_column(self, features: dict[str, Any]) -> str:
        found = [name for name, feature in features.items() if _is_audio(feature)]
        if len(found) != 1:
            raise UserError(
                f"data set {self.dataset} has {len(found) or 'no'} audio columns, one is needed; its columns are: "
                f"{', '.join(features)}"
            )
        return found[0]

    def _column(self, chosen: str | None, usual: tuple[str, ...], field: str, features: dict[str, Any]) -> str | None:
        if chosen is not None and chosen not in features:
            raise UserError(
                f"field '{field}' is '{chosen}', no column of {self.dataset}; its columns are: {', '.join(features)}"
            )
        return chosen or next((name for name in usual if name in features), None)

    def _sound_file(self, audio: dict[str, Any]) -> Path | str:
        """Where a row's sound is, or why it is nowhere."""
        path, content = audio.get("path"), audio.get("bytes")
        if content is None:
            if not path:
                return "has no audio"
            return Path(path).absolute() if Path(path).is_file() else f"audio file {path} does not exist"
        if self.cache is None:
            raise UserError(
                f"data set {self.dataset} holds its audio as bytes; name a folder for the sound files in field 'cache'"
            )
        digest = hashlib.sha256(content).hexdigest()
        suffix = Path(path or "").suffix.lower()
        file = self.cache / digest[:2] / f"{digest}{suffix if suffix[1:].isalnum() else ''}"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
            temporary.write_bytes(content)
            temporary.replace(file)
        return file


@contextmanager
def _audio_as_it_is() -> Iterator[None]:
    """Let `datasets` build tables of paths and bytes without torchcodec.

    Its Audio column imports torchcodec, which needs ffmpeg, before it looks at what it is given; only arrays, which are
    not met here, are encoded by it.
    """
    from datasets import Audio

    original = Audio.encode_example

    def encode_example(self: Any, value: Any) -> Any:
        if isinstance(value, str | Path):
            return {"bytes": None, "path": str(value)}
        if isinstance(value, dict) and "array" not in value:
            return {"bytes": value.get("bytes"), "path": value.get("path")}
        return original(self, value)

    Audio.encode_example = encode_example
    try:
        yield
    finally:
        Audio.encode_example = original


def _is_audio(feature: Any) -> bool:
    # Parquet that was not written by datasets has a plain struct.
    return type(feature).__name__ == "Audio" or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _is_label(feature: Any) -> bool:
    kind = getattr(feature, "dtype", "")
    return isinstance(kind, str) and re.fullmatch(r"(large_)?string|bool|u?int\d+", kind) is not None


def _text(value: Any, feature: Any) -> str:
    """A cell as a label; empty where it is missing, as -1 is for a class."""
    if value is None:
        return ""
    if hasattr(feature, "int2str"):
        return str(feature.int2str(value)) if value >= 0 else ""
    return str(value).strip()

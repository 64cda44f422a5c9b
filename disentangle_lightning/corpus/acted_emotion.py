"""Corpora of acted emotion whose file names say everything: what their readers share."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import drawing_key, usable
from disentangle_lightning.errors import UserError

_LFS_POINTER = b"version https://git-lfs"
_LFS_POINTER_BYTES = 1024


@dataclass(frozen=True)
class Clip:
    """What the name of a sound file says.

    Attributes:
        speaker: who acts.
        transcription: the prescribed words.
        labels: `emotion`, and whatever else is known.
    """

    speaker: str
    transcription: str
    labels: dict[str, str]


class ActedEmotion(ABC):
    """A reader that finds the sound files under a folder, however deep, and reads their names.

    So the official archive, a mirror that packs it otherwise, and a part of either are read alike, with the
    sound file's path under the folder as id. Mirrors often hold every file twice; the copy that lies deeper is
    skipped, as is a file that is empty, a Git LFS pointer, or not of the corpus.

    Args:
        folder: any folder above the sound files.
        emotions: those to keep; null keeps every one.
        balanced: keep as many clips of every emotion as the rarest has; which ones is fixed.
        test_speakers: these become the split `test` and all others `train`; without them no clip has a split,
            and the `splits` settings make all of them.

    Raises:
        UserError: the folder has no sound file of the corpus, or none that can be used; an emotion or speaker is
            unknown.
    """

    corpus: ClassVar[str]
    expected: ClassVar[str]
    """A sound file's path in the official archive."""
    pattern: ClassVar[re.Pattern[str]]
    """Of a file's name without extension."""
    known_emotions: ClassVar[Collection[str]]

    def __init__(
        self,
        folder: str,
        emotions: Sequence[str] | None = None,
        balanced: bool = False,
        test_speakers: Sequence[str | int] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.emotions = emotions
        self.balanced = balanced
        # 08 is text in YAML and 03 the number 3: both are a speaker of Emo-DB.
        self.test_speakers = [str(name).zfill(2) for name in test_speakers or ()]

    @abstractmethod
    def clip(self, name: re.Match[str]) -> Clip | str:
        """The clip of a name that `pattern` matches, or the reason why it cannot be used."""

    def read(self) -> Corpus:
        """Read the names; the sound files are not opened."""
        paths = wav_files(self.folder, f"{self.corpus}'s folder")
        names = {path: name for path in paths if (name := self.pattern.fullmatch(path.stem))}
        if not names:
            raise UserError(
                f"folder {self.folder} has no sound file named as in {self.corpus}; "
                f"give the folder in which its archive was unpacked, with {self.expected}"
            )
        found: list[Utterance] = []
        skipped: list[Skipped] = []
        seen: dict[str, str] = {}
        for path in paths:
            id = path.relative_to(self.folder).with_suffix("").as_posix()
            name = names.get(path)
            if name is None:
                skipped.append(Skipped(id, f"file name is not of {self.corpus}, as {self.expected} is"))
            elif path.stem in seen:
                skipped.append(Skipped(id, f"the same clip as '{seen[path.stem]}'"))
            elif reason := no_sound(path):
                skipped.append(Skipped(id, reason))
            elif isinstance(clip := self.clip(name), str):
                skipped.append(Skipped(id, clip))
            else:
                seen[path.stem] = id
                found.append(_utterance(id, path, clip))
        kept, left_out = choose_emotions(found, self.emotions, self.known_emotions, self.balanced)
        return usable(Corpus(self._split(kept), [*skipped, *left_out]), f"folder {self.folder}")

    def _split(self, utterances: list[Utterance]) -> list[Utterance]:
        if not self.test_speakers or not utterances:
            return utterances
        speakers = {u.speaker for u in utterances if u.speaker is not None}
        if unknown := set(self.test_speakers) - speakers:
            raise UserError(
                f"field 'test_speakers' names '{min(unknown)}'; the speakers are {', '.join(sorted(speakers))}"
            )
        return [replace(u, split="test" if u.speaker in self.test_speakers else "train") for u in utterances]


def wav_files(folder: Path, meaning: str) -> list[Path]:
    """Every WAV file under a folder, those that lie least deep first; hidden ones (`._x.wav`) are none.

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{meaning} {folder} does not exist")
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if re.fullmatch(r"[^.].*\.wav", name, re.IGNORECASE)]
    return sorted(found, key=lambda path: (len(path.parts), path.as_posix()))


def no_sound(path: Path) -> str | None:
    """Why a file that is there holds no sound, as far as that is cheap to tell."""
    size = path.stat().st_size
    if size == 0:
        return "sound file is empty"
    if size < _LFS_POINTER_BYTES and path.read_bytes().startswith(_LFS_POINTER):
        return "sound file is only a Git LFS pointer; run `git lfs pull` in its repository"
    return None


def choose_emotions(
    utterances: Sequence[Utterance], emotions: Sequence[str] | None, known: Collection[str], balanced: bool
) -> tuple[list[Utterance], list[Skipped]]:
    """The utterances of some emotions (None: all), equally many of each if `balanced`; and those left out.

    Which ones are left out to balance depends on their ids alone, not on their order.

    Raises:
        UserError: `emotions` is empty, or names one that the corpus does not have.
    """
    if emotions is not None and (not emotions or set(emotions) - set(known)):
        raise UserError(f"field 'emotions' is {list(emotions)}; expected some of {', '.join(sorted(known))}, or null")
    kept: list[Utterance] = []
    skipped: list[Skipped] = []
    for u in utterances:
        if emotions is None or u.labels["emotion"] in emotions:
            kept.append(u)
        else:
            skipped.append(Skipped(u.id, f"emotion '{u.labels['emotion']}' is not wanted"))
    if not balanced or not kept:
        return kept, skipped
    by_emotion: dict[str, list[str]] = defaultdict(list)
    for u in kept:
        by_emotion[u.labels["emotion"]].append(u.id)
    fewest = min(map(len, by_emotion.values()))
    chosen = {id for ids in by_emotion.values() for id in sorted(ids, key=drawing_key)[:fewest]}
    skipped += [Skipped(u.id, f"left out so that every emotion has {fewest}") for u in kept if u.id not in chosen]
    return [u for u in kept if u.id in chosen], skipped


def _utterance(id: str, path: Path, clip: Clip) -> Utterance:
    return Utterance(
        id=id, audio=path.absolute(), transcription=clip.transcription, speaker=clip.speaker, labels=clip.labels
    )

"""Which sound files are meant, and what their outputs are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from disentangle_lightning.corpus.manifest import Skipped

# fmt: off
SOUND_SUFFIXES = frozenset([
    ".wav", ".wave", ".w64", ".rf64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".m4a", ".aac", ".wma",
])
# fmt: on
"""What counts as sound in a folder. The last three cannot be decoded: they are skipped and listed, not overlooked."""


@dataclass(frozen=True)
class SoundFile:
    """A file to take apart.

    Attributes:
        path: where it is.
        id: its path below the folder that was named, or else its name; without extension, parts joined by `/`.
    """

    path: Path
    id: str


def find_sound_files(audio: Sequence[str | Path]) -> tuple[list[SoundFile], list[Skipped]]:
    """The files that are named, and those in folders that are named: each file once, folders in sorted order.

    A named file is taken whatever its extension. A folder without any sound file is listed as skipped.
    """
    found: dict[Path, SoundFile] = {}
    skipped: list[Skipped] = []
    for named in map(Path, audio):
        if named.is_dir():
            inside = sorted(p for p in named.rglob("*") if p.suffix.lower() in SOUND_SUFFIXES and p.is_file())
            files = [SoundFile(path, path.relative_to(named).with_suffix("").as_posix()) for path in inside]
            if not files:
                skipped.append(Skipped(str(named), "the folder holds no sound files"))
        else:
            files = [SoundFile(named, named.stem)]
        for file in files:
            found.setdefault(file.path.resolve(), file)
    return list(found.values()), skipped

"""LibriSpeech (openslr.org/12), as its archives unpack."""

from __future__ import annotations

from pathlib import Path

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import check_limits, select, usable
from disentangle_lightning.errors import UserError

SUBSETS = (
    "train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other", "test-clean", "test-other",
)  # fmt: skip


class LibriSpeech:
    """A corpus reader for LibriSpeech: read English, its transcriptions in capitals, its speakers and their gender.

    Every archive unpacks to a folder `LibriSpeech` with `SPEAKERS.TXT` and, for example,
    `test-clean/1089/134686/1089-134686-0000.flac` beside `1089-134686.trans.txt`. The splits are the official ones,
    which share no speaker: `train-*`, `dev-*` and `test-*`. Label: gender.

    The clips of arXiv 2410.03037 are `subsets: [train-clean-100, test-clean]`, `max_seconds: 14` and
    `clips: {train: 4000, test: 1000}`, though not the same draw.

    Args:
        folder: the folder `LibriSpeech`.
        subsets: which of its sub-folders; None means all that are there.
        max_seconds: leaves longer clips out; every header is then read.
        clips: at most so many clips of a split, such as `{train: 4000, test: 1000}`.

    Raises:
        UserError: the folder has no subset or lacks one that is asked for, an option is out of range, or not one
            clip can be used.
    """

    def __init__(
        self,
        folder: str,
        subsets: list[str] | None = None,
        max_seconds: float | None = None,
        clips: dict[str, int] | None = None,
    ) -> None:
        if subsets is not None and (not isinstance(subsets, list) or not subsets or not set(subsets) <= set(SUBSETS)):
            raise UserError(f"field 'subsets' is {subsets!r}; expected a list of some of {', '.join(SUBSETS)}")
        check_limits(max_seconds, clips)
        self.folder = Path(folder)
        self.subsets = subsets
        self.max_seconds = max_seconds
        self.clips = clips

    def read(self) -> Corpus:
        """Read the transcriptions of every chapter, and look for its sound files."""
        genders = _read_genders(self.folder / "SPEAKERS.TXT")
        found = Corpus([])
        # Not torchaudio's LIBRISPEECH: it sees only the sound files that exist, so that half an archive goes
        # unnoticed, stops at the first that has no transcription, and reads a chapter's once for each utterance.
        for subset in self._subsets():
            for chapter in sorted(p for p in (self.folder / subset).glob("*/*") if p.is_dir()):
                self._read_chapter(subset, chapter, genders, found)
        return select(usable(found, f"folder {self.folder}"), self.max_seconds, self.clips)

    def _subsets(self) -> list[str]:
        there = [name for name in SUBSETS if (self.folder / name).is_dir()]
        if not there:
            raise UserError(
                f"folder {self.folder} has no sub-folder such as train-clean-100 or test-clean; "
                "give the folder LibriSpeech itself, to which its archives unpack"
            )
        if missing := [name for name in self.subsets or () if name not in there]:
            raise UserError(
                f"folder {self.folder} has no sub-folder {missing[0]}; unpack {missing[0]}.tar.gz there, "
                f"or name only what is there in 'subsets': {', '.join(there)}"
            )
        return [name for name in there if self.subsets is None or name in self.subsets]

    def _read_chapter(self, subset: str, chapter: Path, genders: dict[str, str], found: Corpus) -> None:
        speaker = chapter.parent.name
        text_file = chapter / f"{speaker}-{chapter.name}.trans.txt"
        texts = _read_transcriptions(text_file)
        sounds = {p.stem for p in chapter.glob("*.flac") if not p.name.startswith(".")}
        for name in sorted(texts.keys() | sounds):
            id = f"{subset}/{speaker}/{chapter.name}/{name}"
            audio = chapter / f"{name}.flac"
            if name not in sounds:
                found.skipped.append(Skipped(id, f"audio file {audio} does not exist"))
            elif not texts.get(name):
                found.skipped.append(Skipped(id, f"has no transcription in {text_file}"))
            else:
                found.utterances.append(
                    Utterance(
                        id=id,
                        audio=audio.absolute(),
                        transcription=texts[name],
                        speaker=speaker,
                        split=subset.partition("-")[0],
                        labels={"gender": genders[speaker]} if speaker in genders else {},
                    )
                )


def _read_transcriptions(file: Path) -> dict[str, str]:
    """{utterance: words}; empty where the file does not exist."""
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {name: words.strip() for name, _, words in (line.partition(" ") for line in lines if line.strip())}


def _read_genders(file: Path) -> dict[str, str]:
    """{speaker: female or male} of `14   | F | train-clean-360  | 25.03 | Kristin LeMoine`; `;` begins a comment."""
    genders: dict[str, str] = {}
    if file.is_file():
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if not line.startswith(";") and len(cells) > 1 and (word := gender_word(cells[1])):
                genders[cells[0]] = word
    return genders

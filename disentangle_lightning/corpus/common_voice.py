"""Mozilla Common Voice: sentences read aloud by volunteers, who may say how old they are and how they speak."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import (
    check_limits,
    drawing_key,
    in_drawing_order,
    select,
    too_long,
    usable,
)
from disentangle_lightning.errors import UserError

TABLES = ("train", "dev", "test")

_ACCENT_COLUMNS = ("accents", "accent")  # versions from 8.0 on, and before
_NEEDED = ("client_id", "path", "sentence")
_DOUBLED_QUOTES = re.compile(r'"(?:[^"]|"")*"')


class CommonVoice:
    """A corpus reader for one language of Common Voice (the folder `cv-corpus-17.0-2024-03-15/en`, any version).

    The folder has `clips/*.mp3` and tab-separated tables, of which the validated clips in `train.tsv`, `dev.tsv` and
    `test.tsv` are read: the official splits, which share no speaker and no sentence. Labels, where the volunteer
    gave them: gender, age (`twenties`), accent; and language (the table's locale).

    With `speakers`, that many speakers of `train.tsv` are chosen instead, half of them women and half men, each with
    `clips_per_speaker` clips, and none has a split: for learning who speaks. Which ones does not depend on anything but
    the table. The 24 speakers of arXiv 2410.03037 were chosen so, though not the same ones: `speakers: 24`,
    `clips_per_speaker: 208`, `accent: United States English`, `max_seconds: 14`, on version 17.0.

    Args:
        folder: the folder of the language.
        speakers: an even number of speakers to choose; None reads the official splits.
        clips_per_speaker: how many clips of each chosen speaker; who has fewer is not chosen.
        accent: only clips whose accent is written exactly so: `United States English`, or `us` in versions before 8.0.
        max_seconds: leaves longer clips out, by clip_durations.tsv or else by the header.
        clips: at most so many clips of a split, such as `{train: 4000, test: 1000}`.

    Raises:
        UserError: the folder lacks `clips` or every table, a table lacks a column, an option is out of range, nobody
            has the accent, there are too few speakers, or not one clip can be used.
    """

    def __init__(
        self,
        folder: str,
        speakers: int | None = None,
        clips_per_speaker: int = 200,
        accent: str | None = None,
        max_seconds: float | None = None,
        clips: dict[str, int] | None = None,
    ) -> None:
        if speakers is not None and (type(speakers) is not int or speakers < 2 or speakers % 2):
            raise UserError(f"field 'speakers' is {speakers!r}; expected an even number, half women and half men")
        if clips_per_speaker < 1:
            raise UserError(f"field 'clips_per_speaker' is {clips_per_speaker}; at least one is needed")
        if speakers is not None and clips is not None:
            raise UserError("field 'clips' counts by split, and chosen 'speakers' have none; use 'clips_per_speaker'")
        check_limits(max_seconds, clips)
        self.folder = Path(folder).absolute()
        self.speakers = speakers
        self.clips_per_speaker = clips_per_speaker
        self.accent = accent
        self.max_seconds = max_seconds
        self.clips = clips

    def read(self) -> Corpus:
        """Read the tables; the sound files are only looked for."""
        tables = [name for name in TABLES if (self.folder / f"{name}.tsv").is_file()]
        if not (self.folder / "clips").is_dir() or not tables:
            raise UserError(
                f"folder {self.folder} has no sub-folder clips beside train.tsv, dev.tsv or test.tsv; give the folder "
                "of one language, such as cv-corpus-17.0-2024-03-15/en"
            )
        if self.speakers is not None:
            if "train" not in tables:
                raise UserError(f"folder {self.folder} has no train.tsv, from which 'speakers' are chosen")
            tables = ["train"]
        there = set(os.listdir(self.folder / "clips"))
        found = Corpus([])
        accents: Counter[str] = Counter()
        for name in tables:
            for row, where in _rows(self.folder / f"{name}.tsv"):
                accent = next((row[column] for column in _ACCENT_COLUMNS if row.get(column)), "")
                accents[accent] += 1
                if self.accent is None or accent == self.accent:
                    self._add(row, where, accent, name, there, found)
        if self.accent is not None and not accents[self.accent]:
            known = ", ".join(f"'{name}'" for name, _ in accents.most_common(6) if name) or "none"
            raise UserError(
                f"field 'accent' is '{self.accent}', which no clip in {self.folder} has; frequent ones are: {known}"
            )
        usable(found, f"folder {self.folder}")
        found = self._with_durations(found)
        if self.speakers is None:
            found = select(found, self.max_seconds, self.clips)
        else:
            found = self._choose(found, self.speakers)
        # A length in whole milliseconds chooses clips well, but would cut them short.
        return Corpus([replace(u, duration=None) for u in found.utterances], found.skipped)

    def _add(self, row: dict[str, str], where: str, accent: str, table: str, there: set[str], found: Corpus) -> None:
        file = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"  # the first versions left it out
        id = f"clips/{Path(file).stem}"
        if "\t" in row:
            found.skipped.append(Skipped(id, f"{where} has more cells than there are columns"))
        elif file not in there:
            found.skipped.append(Skipped(id, f"audio file {self.folder / 'clips' / file} does not exist"))
        elif not row["sentence"]:
            found.skipped.append(Skipped(id, f"{where}: column 'sentence' is empty"))
        else:
            labels = {
                "gender": gender_word(row.get("gender", "")),
                "age": row.get("age"),
                "accent": accent,
                "language": row.get("locale"),
            }
            found.utterances.append(
                Utterance(
                    id=id,
                    audio=self.folder / "clips" / file,
                    transcription=row["sentence"],
                    speaker=row["client_id"] or None,
                    split=table if self.speakers is None else None,
                    labels={name: value for name, value in labels.items() if value},
                )
            )

    def _with_durations(self, found: Corpus) -> Corpus:
        """With the lengths of clip_durations.tsv (versions from 14.0 on), if they are needed."""
        table = self.folder / "clip_durations.tsv"
        if self.max_seconds is None or not table.is_file():
            return found
        seconds: dict[str, float] = {}
        for line in table.read_text(encoding="utf-8").splitlines()[1:]:
            file, _, milliseconds = line.partition("\t")
            if milliseconds.isdecimal():
                seconds[file] = int(milliseconds) / 1000
        return Corpus([replace(u, duration=seconds.get(u.audio.name)) for u in found.utterances], found.skipped)

    def _choose(self, found: Corpus, speakers: int) -> Corpus:
        """Half women and half men, each with as many clips, both drawn in a fixed random order."""
        of_speaker: dict[str, list[Utterance]] = defaultdict(list)
        for u in found.utterances:
            if u.speaker and "gender" in u.labels:
                of_speaker[u.speaker].append(u)
        skipped = list(found.skipped)
        chosen: set[str] = set()
        for gender in ("female", "male"):
            count = 0
            for speaker in sorted(of_speaker, key=drawing_key):
                members = in_drawing_order(of_speaker[speaker])
                # An account that gave two answers may be shared.
                if count == speakers // 2 or {u.labels["gender"] for u in members} != {gender}:
                    continue
                if len(members) < self.clips_per_speaker:
                    continue
                kept: list[str] = []
                for u in members:
                    if len(kept) == self.clips_per_speaker:
                        break
                    if reason := too_long(u, self.max_seconds):
                        skipped.append(Skipped(u.id, reason))
                    else:
                        kept.append(u.id)
                if len(kept) == self.clips_per_speaker:
                    chosen.update(kept)
                    count += 1
            if count < speakers // 2:
                raise UserError(
                    f"{self.folder / 'train.tsv'} has only {count} {gender} speakers with {self.clips_per_speaker} "
                    f"clips that can be used, {speakers // 2} are needed; lower 'speakers' or 'clips_per_speaker'"
                )
        return Corpus([u for u in found.utterances if u.id in chosen], skipped)


def _rows(file: Path) -> Iterator[tuple[dict[str, str], str]]:
    """Every row by column, and where it is. Cells beyond the last column are under a tab.

    The tables are written without quoting, so that a quotation mark is one, at the beginning of a sentence too: a CSV
    reader would swallow rows until the next one. Some versions wrote them with a backslash, or doubled.
    """
    with file.open(encoding="utf-8-sig", newline="\n") as lines:
        header = next(lines, "").rstrip("\r\n").split("\t")
        if missing := [name for name in _NEEDED if name not in header]:
            raise UserError(f"{file} has no column '{missing[0]}'; its columns are: {', '.join(header)}")
        for number, line in enumerate(lines, start=2):
            if line.strip():
                cells = [cell.strip() for cell in line.rstrip("\r\n").split("\t")]
                row = dict.fromkeys(header, "") | dict(zip(header, cells, strict=False))
                row["sentence"] = _unquoted(row["sentence"])
                if len(cells) > len(header):
                    row["\t"] = ""
                yield row, f"{file}, line {number}"


def _unquoted(sentence: str) -> str:
    sentence = sentence.replace('\\"', '"')
    if '""' in sentence and _DOUBLED_QUOTES.fullmatch(sentence):
        sentence = sentence[1:-1].replace('""', '"')
    return sentence.strip()

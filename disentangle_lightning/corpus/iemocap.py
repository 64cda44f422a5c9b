"""IEMOCAP: dialogues of ten American actors, improvised and scripted, rated for emotion."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from disentangle_lightning.corpus.acted_emotion import choose_emotions, no_sound, wav_files
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import usable
from disentangle_lightning.errors import UserError

EMOTIONS = {
    "ang": "angry", "dis": "disgusted", "exc": "excited", "fea": "fearful", "fru": "frustrated",
    "hap": "happy", "neu": "neutral", "oth": "other", "sad": "sad", "sur": "surprised",
}  # fmt: skip
NO_AGREEMENT = "xxx"

FOUR = ("angry", "happy", "neutral", "sad")
SESSIONS = range(1, 6)

# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_EVALUATION = re.compile(r"\[[\d. ]+-[\d. ]+\]\s+(\S+)\s+(\w+)\s+\[")
# Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.
_TRANSCRIPTION = re.compile(r"(Ses\S+)\s*\[[\d. ]+-[\d. ]+\]\s*:(.*)")
# Session, who wears the markers, dialogue, who speaks, number; XX0 are breaths and laughs between turns.
_TURN = re.compile(r"(Ses\d\d)[FM]_((?:impro|script)\w+)_([FM])(?:\d+|XX\d+)")
_MARKS = re.compile(r"\[[^\]]*\]|<[^>]*>")


class IEMOCAP:
    """A corpus reader for IEMOCAP (Busso et al., 2008; https://sail.usc.edu/iemocap).

    The release holds `Session1`...`Session5`, each with `sentences/wav/DIALOGUE/TURN.wav` (16 kHz),
    `dialog/EmoEvaluation/DIALOGUE.txt` and `dialog/transcriptions/DIALOGUE.txt`. A turn's emotion is that on which
    most raters agree; turns on which they do not (`xxx`) are skipped. `excited` counts as `happy` unless it is
    among `emotions`, as is usual. A session's two actors are in no other session, so that a test session is one of
    unheard speakers. Labels: emotion, gender, session, utterance_type (improvised, scripted).

    The turns of arXiv 2410.03037 are the defaults with `balanced: true` (4,064 there), split another way.

    Args:
        folder: the release, IEMOCAP_full_release.
        emotions: those to keep, of angry, disgusted, excited, fearful, frustrated, happy, neutral, other, sad and
            surprised; null keeps every one.
        balanced: keep as many turns of every emotion as the rarest has; which ones is fixed.
        drop_marked: skip turns whose transcription marks what is no word, as in "[LAUGHTER] okay"; if false, only
            the marks are removed.
        test_session: becomes the split `test` and the others `train`; null gives no split. Dev and probe are made
            by the `splits` settings.

    Raises:
        UserError: the folder is not the release, lacks the test session, or has no turn that can be used; an
            option is out of range.
    """

    def __init__(
        self,
        folder: str,
        emotions: Sequence[str] | None = FOUR,
        balanced: bool = False,
        drop_marked: bool = True,
        test_session: int | None = 5,
    ) -> None:
        if test_session is not None and test_session not in SESSIONS:
            raise UserError(f"field 'test_session' is {test_session}; expected 1 to 5, or null")
        self.folder = Path(folder)
        self.emotions = emotions
        self.balanced = balanced
        self.drop_marked = drop_marked
        self.test_session = test_session

    def read(self) -> Corpus:
        """Read evaluations and transcriptions; the sound files are only looked for."""
        # Not torchaudio's IEMOCAP: it wants the release renamed, stops at the archive's hidden files, has no
        # transcriptions, drops labels without a word, and takes who wears the markers for who speaks.
        found: list[Utterance] = []
        skipped: list[Skipped] = []
        for session in self._sessions():
            self._read_session(session, found, skipped)
        if self.emotions is not None and "excited" not in self.emotions:
            found = [_happy_if_excited(u) for u in found]
        kept, left_out = choose_emotions(found, self.emotions, EMOTIONS.values(), self.balanced)
        if self.test_session is not None:
            test = str(self.test_session)
            kept = [replace(u, split="test" if u.labels["session"] == test else "train") for u in kept]
        return usable(Corpus(kept, [*skipped, *left_out]), f"folder {self.folder}")

    def _sessions(self) -> list[Path]:
        sessions = [path for n in SESSIONS if (path := self.folder / f"Session{n}").is_dir()]
        evaluated = [path for path in sessions if (path / "dialog" / "EmoEvaluation").is_dir()]
        if not evaluated:
            raise UserError(
                f"folder {self.folder} has no Session1/dialog/EmoEvaluation; "
                "give the folder IEMOCAP_full_release itself"
            )
        for session in sessions:
            for part in ("dialog/EmoEvaluation", "dialog/transcriptions", "sentences/wav"):
                if not (session / part).is_dir():
                    raise UserError(f"folder {session} has no {part}; unpack the whole session, or take it away")
        if self.test_session is not None and self.folder / f"Session{self.test_session}" not in sessions:
            raise UserError(
                f"folder {self.folder} has no Session{self.test_session} to test on; unpack it, or set "
                f"'test_session' to one that is there: {', '.join(path.name[-1] for path in sessions)}"
            )
        return sessions

    def _read_session(self, session: Path, found: list[Utterance], skipped: list[Skipped]) -> None:
        emotions = _lines(session / "dialog" / "EmoEvaluation", _EVALUATION)
        texts = _lines(session / "dialog" / "transcriptions", _TRANSCRIPTION)
        sounds = {path.stem: path for path in wav_files(session / "sentences" / "wav", "IEMOCAP's folder")}
        # Stretches that are only transcribed are no turns: breaths and laughs that were never cut or rated.
        for turn in sorted(emotions.keys() | sounds.keys()):
            name = _TURN.fullmatch(turn)
            path = sounds.get(turn, session / "sentences" / "wav" / turn.rpartition("_")[0] / f"{turn}.wav")
            id = path.relative_to(self.folder).with_suffix("").as_posix()
            if name is None:
                skipped.append(Skipped(id, "name is not of IEMOCAP, as Ses01F_impro01_F000 is"))
            elif turn not in sounds:
                skipped.append(Skipped(id, f"audio file {path} does not exist"))
            elif reason := no_sound(path) or self._reason(emotions.get(turn), texts.get(turn)):
                skipped.append(Skipped(id, reason))
            else:
                pair, dialogue, letter = name.groups()
                labels = {
                    "emotion": EMOTIONS[emotions[turn]],
                    "gender": "female" if letter == "F" else "male",
                    "session": session.name[-1],
                    "utterance_type": "improvised" if dialogue.startswith("impro") else "scripted",
                }
                words = _words(texts[turn])
                found.append(Utterance(id, path.absolute(), transcription=words, speaker=pair + letter, labels=labels))

    def _reason(self, emotion: str | None, text: str | None) -> str | None:
        """Why a turn cannot be used, whatever its sound."""
        if emotion is None:
            return "has no line in dialog/EmoEvaluation"
        if emotion == NO_AGREEMENT:
            return "raters did not agree on an emotion (xxx)"
        if emotion not in EMOTIONS:
            return f"emotion '{emotion}' is unknown; expected one of {', '.join(EMOTIONS)}"
        if text is None:
            return "has no line in dialog/transcriptions"
        if not _words(text):
            return "transcription has no words"
        if self.drop_marked and _MARKS.search(text):
            return f"transcription marks what is no word: {', '.join(sorted(set(_MARKS.findall(text))))}"
        return None


def _lines(folder: Path, pattern: re.Pattern[str]) -> dict[str, str]:
    """{turn: what follows it} of every line that the pattern matches, in every visible text file of a folder."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("[!.]*.txt")):
        raw = file.read_bytes()
        try:
            text = raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = raw.decode("cp1252", errors="replace")
        for line in text.splitlines():
            if match := pattern.match(line.strip()):
                found[match[1]] = match[2]
    return found


def _words(text: str) -> str:
    return " ".join(_MARKS.sub(" ", text).split())


def _happy_if_excited(utterance: Utterance) -> Utterance:
    if utterance.labels["emotion"] != "excited":
        return utterance
    return replace(utterance, labels=utterance.labels | {"emotion": "happy"})

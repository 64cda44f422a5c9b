"""CREMA-D: twelve sentences in six emotions by 91 American actors."""

from __future__ import annotations

import csv
import re
from functools import cached_property

from disentangle_lightning.corpus.acted_emotion import ActedEmotion, Clip
from disentangle_lightning.corpus.genders import gender_word
from disentangle_lightning.errors import UserError

EMOTIONS = {
    "ANG": "angry", "DIS": "disgusted", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip

SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}

_INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}

_FAULTY = {
    "1076_MTI_SAD_XX": "known to hold no speech",
    "1064_IEO_DIS_MD": "known to hold a minute with every emotion",
}
"""Faults of the published sound files that many users have met."""

DEMOGRAPHICS = "VideoDemographics.csv"
_COLUMNS = {"Sex": "gender", "Age": "age", "Race": "race", "Ethnicity": "ethnicity"}


class CREMAD(ActedEmotion):
    """A corpus reader for CREMA-D (Cao et al., 2014; https://github.com/CheyneyComputerScience/CREMA-D).

    Clone the repository with Git LFS, or its folder AudioWAV alone: 7,442 clips, `AudioWAV/1001_DFA_ANG_XX.wav`,
    16 kHz. Labels: emotion (angry, disgusted, fearful, happy, neutral, sad) as it was acted, intensity (low, medium,
    high, unspecified), sentence (IEO...WSI); and gender, age, race and ethnicity where VideoDemographics.csv lies in
    the folder or beside it. Two clips whose sound is known to be wrong are skipped.

    Args:
        folder: any folder above the sound files.
        emotions: those to keep; null keeps every one.
        balanced: keep as many clips of every emotion as the rarest has; which ones is fixed.
        test_speakers: these become the split `test` and all others `train`, as in [1001, 1002].

    Raises:
        UserError: as `ActedEmotion`; or VideoDemographics.csv lacks a column or an actor.
    """

    corpus = "CREMA-D"
    expected = "AudioWAV/1001_DFA_ANG_XX.wav"
    # 1040_ITH_SAD_X.wav is called so in the archive.
    pattern = re.compile(rf"(\d{{4}})_({'|'.join(SENTENCES)})_({'|'.join(EMOTIONS)})_({'|'.join(_INTENSITIES)})")
    known_emotions = EMOTIONS.values()

    def clip(self, name: re.Match[str]) -> Clip | str:
        if name[0] in _FAULTY:
            return _FAULTY[name[0]]
        actor, sentence, emotion, intensity = name.groups()
        labels = {"emotion": EMOTIONS[emotion], "intensity": _INTENSITIES[intensity], "sentence": sentence}
        return Clip(actor, SENTENCES[sentence], labels | self._actor(actor))

    def _actor(self, actor: str) -> dict[str, str]:
        if not self._actors:
            return {}
        if actor not in self._actors:
            raise UserError(f"{DEMOGRAPHICS} in or beside {self.folder} has no ActorID {actor}")
        return self._actors[actor]

    @cached_property
    def _actors(self) -> dict[str, dict[str, str]]:
        """The labels of each actor; empty where there is no table."""
        folders = (self.folder, self.folder.absolute().parent)
        file = next((f / DEMOGRAPHICS for f in folders if (f / DEMOGRAPHICS).is_file()), None)
        if file is None:
            return {}
        with file.open(encoding="utf-8-sig", errors="replace", newline="") as text:
            rows = list(csv.DictReader(text))
        for column in ("ActorID", *_COLUMNS):
            if not rows or column not in rows[0]:
                raise UserError(f"{file} has no column '{column}', which CREMA-D's table of actors has")
        actors = {}
        for row in rows:
            labels = {label: row[column] or "" for column, label in _COLUMNS.items()}
            labels["gender"] = gender_word(labels["gender"]) or ""
            actors[row["ActorID"]] = {name: value for name, value in labels.items() if value not in ("", "Unknown")}
        return actors

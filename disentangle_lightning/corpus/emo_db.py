"""Emo-DB: ten German sentences in seven emotions by ten actors of Berlin."""

from __future__ import annotations

import re

from disentangle_lightning.corpus.acted_emotion import ActedEmotion, Clip

EMOTIONS = {
    "W": "angry", "L": "bored", "E": "disgusted", "A": "fearful", "F": "happy", "T": "sad", "N": "neutral",
}  # fmt: skip
"""By the first letter of the German word: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral."""

SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}

_GENDERS = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male",
    "12": "male", "13": "female", "14": "female", "15": "male", "16": "female",
}  # fmt: skip
_AGES = {
    "03": "31", "08": "34", "09": "21", "10": "32", "11": "26",
    "12": "30", "13": "32", "14": "35", "15": "25", "16": "31",
}  # fmt: skip


class EmoDB(ActedEmotion):
    """A corpus reader for Emo-DB (Burkhardt et al., 2005; http://emodb.bilderbar.info).

    535 clips, `wav/03a01Fa.wav`, 16 kHz: speaker, sentence, emotion, version. German, so the alphabet has umlauts.
    Labels: emotion (angry, bored, disgusted, fearful, happy, sad, neutral), gender, age, sentence (a01...b10).

    Args:
        folder: any folder above the sound files.
        emotions: those to keep; null keeps every one.
        balanced: keep as many clips of every emotion as the rarest has; which ones is fixed.
        test_speakers: these become the split `test` and all others `train`, as in [03, 08].

    Raises:
        UserError: as `ActedEmotion`.
    """

    corpus = "Emo-DB"
    expected = "wav/03a01Fa.wav"
    pattern = re.compile(r"(\d\d)([a-z]\d\d)([A-Z])([a-z]?)")
    known_emotions = EMOTIONS.values()

    def clip(self, name: re.Match[str]) -> Clip | str:
        speaker, sentence, emotion, _ = name.groups()
        if sentence not in SENTENCES:
            return f"sentence '{sentence}' is unknown; expected one of {', '.join(SENTENCES)}"
        if emotion not in EMOTIONS:
            return f"emotion '{emotion}' is unknown; expected one of {', '.join(EMOTIONS)}"
        if speaker not in _GENDERS:
            return f"speaker '{speaker}' is unknown; expected one of {', '.join(_GENDERS)}"
        labels = {
            "emotion": EMOTIONS[emotion],
            "gender": _GENDERS[speaker],
            "age": _AGES[speaker],
            "sentence": sentence,
        }
        return Clip(speaker, SENTENCES[sentence], labels)

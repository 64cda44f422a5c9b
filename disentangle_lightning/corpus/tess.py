"""TESS: 200 words in seven emotions by two Canadian actresses."""

from __future__ import annotations

import re

from disentangle_lightning.corpus.acted_emotion import ActedEmotion, Clip

EMOTIONS = {
    "angry": "angry", "disgust": "disgusted", "fear": "fearful", "happy": "happy",
    "neutral": "neutral", "ps": "surprised", "sad": "sad",
}  # fmt: skip

_AGES = {"OAF": "64", "YAF": "26"}


class TESS(ActedEmotion):
    """A corpus reader for TESS (Pichora-Fuller and Dupuis, 2020; https://doi.org/10.5683/SP2/E8H2MF).

    2,800 clips, `OAF_back_angry.wav`, all in one folder or in one for each speaker and emotion. Everybody says
    "Say the word ...". Labels: emotion (angry, disgusted, fearful, happy, neutral, sad, and surprised for the
    pleasant surprise that files call `ps`), gender (always female), age (26, 64).

    Two speakers cannot be kept apart in training, dev and test: with `test_speakers: [YAF]`, dev shares its
    speaker with training. The words can, and are by default (`splits.disjoint: auto`).

    Args:
        folder: any folder above the sound files.
        emotions: those to keep; null keeps every one.
        balanced: keep as many clips of every emotion as the rarest has; which ones is fixed.
        test_speakers: [OAF] or [YAF], the older or the younger actress; the other becomes `train`.

    Raises:
        UserError: as `ActedEmotion`.
    """

    corpus = "TESS"
    expected = "OAF_angry/OAF_back_angry.wav"
    # The archive's OA_bite_neutral.wav is by OAF.
    pattern = re.compile(rf"(OAF?|YAF)_([a-z]+)_({'|'.join(EMOTIONS)})", re.IGNORECASE)
    known_emotions = EMOTIONS.values()

    def clip(self, name: re.Match[str]) -> Clip | str:
        actor, word, emotion = name.groups()
        speaker = "YAF" if actor.upper() == "YAF" else "OAF"
        labels = {"emotion": EMOTIONS[emotion.lower()], "gender": "female", "age": _AGES[speaker]}
        return Clip(speaker, f"Say the word {word.lower()}", labels)

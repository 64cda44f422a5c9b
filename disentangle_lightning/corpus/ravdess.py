"""RAVDESS: two sentences in eight emotions by 24 North American actors."""

from __future__ import annotations

import re

from disentangle_lightning.corpus.acted_emotion import ActedEmotion, Clip

EMOTIONS = {
    "01": "neutral", "02": "calm", "03": "happy", "04": "sad",
    "05": "angry", "06": "fearful", "07": "disgusted", "08": "surprised",
}  # fmt: skip

SENTENCES = {"01": "Kids are talking by the door.", "02": "Dogs are sitting by the door."}


class RAVDESS(ActedEmotion):
    """A corpus reader for RAVDESS (Livingstone and Russo, 2018; https://zenodo.org/records/1188976).

    Unpack Audio_Speech_Actors_01-24.zip: 1,440 clips, `Actor_01/03-01-06-01-02-01-12.wav`, 48 kHz. Song files are
    skipped. Labels: emotion (neutral, calm, happy, sad, angry, fearful, disgusted, surprised), intensity
    (normal, strong), gender, sentence (kids, dogs). arXiv 2410.03037 tests on 384 clips:
    `emotions: [angry, happy, neutral, sad]`, `balanced: true`.

    Args:
        folder: any folder above the sound files.
        emotions: those to keep; null keeps every one.
        balanced: keep as many clips of every emotion as the rarest has; which ones is fixed.
        test_speakers: these become the split `test` and all others `train`, as in [Actor_23, Actor_24].

    Raises:
        UserError: as `ActedEmotion`.
    """

    corpus = "RAVDESS"
    expected = "Actor_01/03-01-01-01-01-01-01.wav"
    # modality (audio only) - speech or song - emotion - intensity - sentence - repetition - actor
    pattern = re.compile(r"03-(01|02)-(0[1-8])-(01|02)-(01|02)-(01|02)-(\d\d)")
    known_emotions = EMOTIONS.values()

    def clip(self, name: re.Match[str]) -> Clip | str:
        channel, emotion, intensity, sentence, _, actor = name.groups()
        if channel == "02":
            return "sung, not spoken"
        labels = {
            "emotion": EMOTIONS[emotion],
            "intensity": "normal" if intensity == "01" else "strong",
            "gender": "male" if int(actor) % 2 else "female",
            "sentence": "kids" if sentence == "01" else "dogs",
        }
        return Clip(f"Actor_{actor}", SENTENCES[sentence], labels)

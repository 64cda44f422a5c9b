"""What a corpus holds, and what of it cannot be used."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from disentangle_lightning.corpus.checks import describe, drop_unspeakable
from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.tokenizer import CTCTokenizer

AUDIO = Path("/none.wav")


def test_transcriptions_without_a_letter_are_left_out_with_a_reason() -> None:
    texts = {"a": "hello", "b": "42", "c": " ?! ", "d": None, "e": "é"}
    utterances = [Utterance(id, AUDIO, transcription=text) for id, text in texts.items()]
    kept, skipped = drop_unspeakable(utterances, CTCTokenizer())
    assert [u.id for u in kept] == ["a", "d"]
    assert skipped == [
        Skipped("b", "transcription '42' has no letter of the alphabet"),
        Skipped("c", "transcription ' ?! ' has no letter of the alphabet"),
        Skipped("e", "transcription 'é' has no letter of the alphabet"),
    ]
    assert "e" in {u.id for u in drop_unspeakable(utterances, CTCTokenizer("É"))[0]}


def test_a_corpus_is_described_in_numbers(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16_000, np.float32), 8_000)
    corpus = Corpus(
        [
            Utterance("a", tmp_path / "a.wav", 0.0, None, "café 1 1", "s1", "test", {"emotion": "sad"}),
            Utterance("b", AUDIO, 0.0, 1.6, "ok", "s1", "test", {"emotion": "happy", "age": "9"}),
            Utterance("c", AUDIO, 0.0, 36.0, None, "s2", "test", {"emotion": "sad"}),
            Utterance("d", AUDIO, 0.0, 360.0, "OK!", None, "train"),
            Utterance("e", AUDIO, 0.0, 720.0, "no"),
        ],
        [Skipped("x", "it is gone")],
    )
    description = describe(corpus, CTCTokenizer())
    assert description == {
        "splits": {
            "train": {"utterances": 1, "hours": 0.1, "speakers": 0},
            "test": {"utterances": 3, "hours": 39.6 / 3600, "speakers": 2},
            "unassigned": {"utterances": 1, "hours": 0.2, "speakers": 0},
        },
        "shared": {
            "speakers": {"test": 2, "trained": 0, "probed": 0},
            "sentences": {"test": 2, "trained": 1, "probed": 0},
        },
        "labels": {
            "age": {"9": 1},
            "emotion": {"happy": 1, "sad": 2},
            "speaker": {"s1": 2, "s2": 1},
        },
        "skipped": [{"id": "x", "reason": "it is gone"}],
        "unknown_characters": {"1": 2, "É": 1},
    }
    assert list(description["unknown_characters"]) == ["1", "É"]
    assert list(description["splits"]) == ["train", "test", "unassigned"]

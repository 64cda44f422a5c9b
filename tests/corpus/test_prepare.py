"""Preparing a corpus: the alphabet that is chosen, what it cannot spell, and splits assigned or left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.prepare import prepare
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import SplitSettings

AUDIO = Path("/none.wav")


def utterance(id: str, text: str | None, split: str | None = None, speaker: str = "s") -> Utterance:
    return Utterance(id, AUDIO, transcription=text, speaker=speaker, split=split)


def test_splits_are_left_alone_unless_they_are_asked_for() -> None:
    found = Corpus([utterance(str(i), "yes", None, f"s{i % 5}") for i in range(20)])
    assert prepare(found, None)[0] == found
    fractions = {"train": 0.6, "dev": 0.2, "test": 0.2}
    assigned = prepare(found, SplitSettings(fractions, "speaker"))[0].utterances
    sides = {split: {u.speaker for u in assigned if u.split == split} for split in fractions}
    assert [len(speakers) for speakers in sides.values()] == [3, 1, 1]
    assert len(set().union(*sides.values())) == 5


def test_what_has_no_letter_is_left_out_beside_what_was_skipped_before() -> None:
    corpus, _ = prepare(Corpus([utterance("a", "yes"), utterance("b", "42")], [Skipped("c", "gone")]), None)
    assert [u.id for u in corpus.utterances] == ["a"]
    assert [s.id for s in corpus.skipped] == ["c", "b"]
    with pytest.raises(UserError, match="no usable utterance: 2 were skipped"):
        prepare(Corpus([utterance("b", "42")], [Skipped("c", "gone")]), None)


def test_the_alphabet_is_of_the_training_splits_or_of_everything_where_nothing_trains() -> None:
    own = Corpus([utterance("a", "zwölf", "train"), utterance("b", "été", "test"), utterance("c", "über", "probe")])
    assert prepare(own, None)[1].alphabet == "BEFLRWZÖÜ"
    english = Corpus([utterance("a", "one 1", "train"), utterance("b", "été", "test")])
    assert prepare(english, None)[1].alphabet == ENGLISH_ALPHABET
    unassigned = Corpus([utterance("a", "zwölf"), utterance("b", "été")])
    assert prepare(unassigned, None)[1].alphabet == "FLTWZÉÖ"
    assert prepare(unassigned, None, "TÉ")[1].alphabet == "TÉ"
    assert [u.id for u in prepare(unassigned, None, "TÉ")[0].utterances] == ["b"]

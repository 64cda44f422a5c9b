"""Preparing a corpus: the alphabet that is chosen, what it cannot spell, and splits assigned or left alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.prepare import Check, divide, prepare
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.targets import check_learnable
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


def divided(
    utterances: list[Utterance], splits: SplitSettings | None = None, check: Check = lambda divided: None
) -> set[str]:
    """What the sides of `divide` do not share, and no utterance is lost."""
    assigned, left_out = divide(utterances, splits or SplitSettings(), check)
    assert (len(assigned), left_out) == (len(utterances), [])
    sides = [[u for u in assigned if u.split in side] for side in (("train", "probe"), ("dev",), ("test",))]
    apart = set()
    for name in ("speaker", "transcription"):
        values = [{getattr(u, name) for u in side} for side in sides]
        if all(a.isdisjoint(b) for a, b in itertools.combinations(values, 2)):
            apart.add(name)
    return apart


def said(speakers: int, sentences: int, own: bool = False) -> list[Utterance]:
    """Everybody says everything, or each sentences of their own."""
    return [
        utterance(f"{s}-{t}", f"word {'a' * t}" + f" {'b' * s}" * own, None, f"s{s}")
        for s in range(speakers)
        for t in range(sentences)
    ]


def test_as_much_is_kept_apart_as_costs_nothing() -> None:
    assert divided(said(20, 6, own=True)) == {"speaker", "transcription"}
    assert divided(said(20, 6)) == {"speaker"}, "both apart would leave some out"
    assert divided(said(2, 80)) == {"transcription"}, "two speakers cannot be in three places"
    assert divided(said(4, 80)) == {"transcription"}, "a test of a quarter is too far from 0.1"
    assert divided(said(4, 10)) == set(), "one or two words that were never heard say nothing"
    crowd = [replace(u, id=f"{i} {u.id}") for i in range(9) for u in said(2, 2)]
    assert divided(crowd) == set(), "neither two speakers nor two sentences can"


def test_who_speaks_is_learnt_of_speakers_who_are_in_all_splits() -> None:
    def check(utterances: Sequence[Utterance]) -> None:
        check_learnable(utterances, ["speaker"], ["speaker"], transcribed=True)

    assert divided(said(20, 6, own=True), check=check) == {"transcription"}
    assert divided(said(20, 80), SplitSettings(stratify="speaker")) == {"transcription"}


def test_splits_that_share_can_be_asked_for() -> None:
    assert divided(said(20, 6), SplitSettings(disjoint=None)) == set()
    assert divided(said(20, 6), SplitSettings(disjoint="speaker")) == {"speaker"}


def test_splits_that_a_corpus_came_with_lose_nothing() -> None:
    own = [replace(u, split=("train", "test")[i % 6 == 0]) for i, u in enumerate(said(20, 6))]
    assigned, left_out = divide(own, SplitSettings())
    assert left_out == []
    assert {u.id for u in assigned if u.split == "test"} == {u.id for u in own if u.split == "test"}

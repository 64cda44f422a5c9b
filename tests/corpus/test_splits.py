"""Splits: nothing shared that must be apart, every class in its share, the same for the same seed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disentangle_lightning.corpus.manifest import SPLITS, Utterance
from disentangle_lightning.corpus.splits import Disjoint, assign_splits
from disentangle_lightning.errors import UserError

FRACTIONS = {"train": 0.6, "probe": 0.1, "dev": 0.1, "test": 0.2}
SIDES = ({"train", "probe"}, {"dev"}, {"test"})


def utterance(id: str, speaker: str = "s", sentence: str = "t", split: str | None = None, **labels: str) -> Utterance:
    return Utterance(id, Path(f"/c/{id}.wav"), 0.0, 1.0, sentence, speaker, split, labels)


def crossed(speakers: int, sentences: int, styles: int = 1) -> list[Utterance]:
    """Everyone says everything; speakers with an even number are women."""
    return [
        utterance(f"{s}-{t}-{k}", f"s{s}", f"Sentence {t}!", style=f"k{k}", gender="mf"[s % 2])
        for s, t, k in product(range(speakers), range(sentences), range(styles))
    ]


def counts(utterances: list[Utterance]) -> dict[str, int]:
    found = Counter(u.split or "" for u in utterances)
    return {split: found[split] for split in SPLITS}


def shared(utterances: list[Utterance], what: str) -> set[str]:
    """Speakers or sentences that are on more than one side."""
    value = {"speaker": lambda u: u.speaker, "sentence": lambda u: u.transcription.upper().strip("!. ")}[what]
    sides = [{value(u) for u in utterances if u.split in side} for side in SIDES]
    return (sides[0] & sides[1]) | (sides[0] & sides[2]) | (sides[1] & sides[2])


def test_every_split_has_its_fraction() -> None:
    assigned, skipped = assign_splits(crossed(10, 10), FRACTIONS)
    assert counts(assigned) == {"train": 60, "probe": 10, "dev": 10, "test": 20}
    assert skipped == []


def test_no_speaker_is_on_two_sides_and_probe_shares_those_of_train() -> None:
    assigned, skipped = assign_splits(crossed(10, 10), FRACTIONS, "speaker")
    assert counts(assigned) == {"train": 60, "probe": 10, "dev": 10, "test": 20}
    assert shared(assigned, "speaker") == set()
    assert {u.speaker for u in assigned if u.split == "probe"} <= {u.speaker for u in assigned if u.split == "train"}
    assert skipped == []


def test_no_sentence_is_on_two_sides_whatever_its_case_and_punctuation() -> None:
    utterances = crossed(5, 20)
    for i in range(20):
        utterances.append(utterance(f"again-{i}", "s9", f"sentence  {i}."))
    assigned, skipped = assign_splits(utterances, FRACTIONS, "sentence")
    assert shared(assigned, "sentence") == set()
    assert counts(assigned) == {"train": 72, "probe": 12, "dev": 12, "test": 24}
    assert skipped == []


def test_disjoint_by_both_leaves_out_what_mixes_sides() -> None:
    assigned, skipped = assign_splits(crossed(10, 20), FRACTIONS, "speaker+sentence")
    assert shared(assigned, "speaker") == shared(assigned, "sentence") == set()
    # 0.7, 0.1 and 0.2 of the speakers say 0.7, 0.1 and 0.2 of the sentences.
    assert counts(assigned) == {"train": 84, "probe": 14, "dev": 2, "test": 8}
    assert len(skipped) == 200 - 108
    assert {s.id for s in skipped}.isdisjoint(u.id for u in assigned)
    assert any(s.reason == "shares its speaker and sentence with test and train" for s in skipped)


def test_disjoint_by_both_loses_nothing_where_everyone_says_something_else() -> None:
    utterances = [utterance(f"{s}-{t}", f"s{s}", f"s{s} t{t}") for s in range(10) for t in range(10)]
    assigned, skipped = assign_splits(utterances, FRACTIONS, "speaker+sentence")
    assert shared(assigned, "speaker") == shared(assigned, "sentence") == set()
    assert counts(assigned) == {"train": 60, "probe": 10, "dev": 10, "test": 20}
    assert skipped == []


def test_probe_of_those_who_are_tested_is_unheard_by_the_stages() -> None:
    def heard(*splits: str) -> dict[str, set[str]]:
        members = [u for u in assigned if u.split in splits]
        return {"speaker": {u.speaker or "" for u in members}, "sentence": {u.transcription or "" for u in members}}

    assigned, _ = assign_splits(crossed(10, 20), FRACTIONS, "speaker", probe_from="test")
    assert counts(assigned) == {"train": 120, "probe": 20, "dev": 20, "test": 40}
    assert heard("train", "dev")["speaker"].isdisjoint(heard("probe", "test")["speaker"])
    assert heard("probe")["speaker"] == heard("test")["speaker"]

    assigned, _ = assign_splits(crossed(10, 20), FRACTIONS, "speaker+sentence", probe_from="test")
    assert counts(assigned) == {"train": 72, "probe": 6, "dev": 2, "test": 12}  # 3 speakers in 10, 6 sentences in 20
    for what, of_stages in heard("train", "dev").items():
        assert of_stages.isdisjoint(heard("probe", "test")[what])

    # A probe of its own says on which side its speakers are.
    own = [replace(u, split="probe" if u.speaker == "s3" else None) for u in crossed(10, 20)]
    fractions = {"train": 0.6, "dev": 0.1, "test": 0.3}
    assigned, left_out = assign_splits(own, fractions, "speaker", probe_from="test")
    assert left_out == []
    assert heard("probe")["speaker"].isdisjoint(heard("train", "dev")["speaker"])


def test_no_probe_is_taken_out_of_a_test_split_that_is_given() -> None:
    own = [replace(u, split=("train", "test")[u.speaker == "s3"]) for u in crossed(10, 20)]
    with pytest.raises(UserError, match="comes with its own, so give it a split 'probe' as well"):
        assign_splits(own, FRACTIONS, "speaker", probe_from="test")
    with pytest.raises(UserError, match="probe_from is 'dev'; expected train or test"):
        assign_splits(own, FRACTIONS, probe_from="dev")  # type: ignore[arg-type]


def test_each_class_keeps_its_share_as_closely_as_counts_allow() -> None:
    sizes = {"a": 300, "b": 41, "c": 15, "d": 7, "e": 4}
    utterances = [utterance(f"{c}{i}", mood=c) for c, n in sizes.items() for i in range(n)]
    assigned, _ = assign_splits(utterances, FRACTIONS, stratify="mood")
    for c, n in sizes.items():
        found = counts([u for u in assigned if u.labels["mood"] == c])
        for split, fraction in FRACTIONS.items():
            assert abs(found[split] - fraction * n) <= 1 or found == dict.fromkeys(SPLITS, 1)
    for split, fraction in FRACTIONS.items():
        assert abs(counts(assigned)[split] - fraction * 367) <= len(sizes)


def test_groups_of_uneven_size_are_stratified_too() -> None:
    utterances = [utterance(f"{s}-{i}", f"s{s}", gender="mf"[s % 2]) for s in range(24) for i in range(5 + 3 * s)]
    assigned, _ = assign_splits(utterances, FRACTIONS, "speaker", stratify="gender")
    assert shared(assigned, "speaker") == set()
    for gender in "mf":
        members = [u for u in assigned if u.labels["gender"] == gender]
        for split, fraction in FRACTIONS.items():
            assert counts(members)[split] / len(members) == pytest.approx(fraction, abs=0.05)


def test_twelve_speakers_of_two_genders_are_both_in_every_split() -> None:
    fractions = {"train": 0.55, "probe": 0.15, "dev": 0.15, "test": 0.15}
    for seed in range(5):
        assigned, _ = assign_splits(crossed(12, 4), fractions, "speaker", stratify="gender", seed=seed)
        for split in SPLITS:
            assert {u.labels["gender"] for u in assigned if u.split == split} == {"m", "f"}


def test_utterances_without_the_label_are_split_too() -> None:
    utterances = [utterance(f"a{i}", mood="x") for i in range(10)] + [utterance(f"b{i}") for i in range(20)]
    assigned, _ = assign_splits(utterances, FRACTIONS, stratify="mood")
    assert counts(assigned) == {"train": 18, "probe": 3, "dev": 3, "test": 6}


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.sampled_from("xy")), min_size=40, max_size=90),
    st.sampled_from([None, "speaker", "sentence", "speaker+sentence"]),
    st.sampled_from([None, "mood"]),
    st.randoms(use_true_random=False),
)
def test_splits_are_disjoint_complete_and_blind_to_order(
    drawn: list[tuple[int, int, str]], disjoint: Disjoint | None, stratify: str | None, order: random.Random
) -> None:
    utterances = [utterance(f"u{i}", f"s{s}", f"t{t}", mood=m) for i, (s, t, m) in enumerate(drawn)]
    try:
        assigned, skipped = assign_splits(utterances, FRACTIONS, disjoint, stratify, seed=1)
    except UserError as error:
        if "split '" not in str(error):  # too few groups for four splits is the one excuse
            raise
        return
    assert [u.id for u in assigned] == [u.id for u in utterances if u.id not in {s.id for s in skipped}]
    assert len(assigned) + len(skipped) == len(utterances)
    assert all(counts(assigned)[split] > 0 for split in SPLITS)
    for what in (disjoint or "").split("+"):
        assert not what or shared(assigned, what) == set()
    if disjoint != "speaker+sentence":
        assert skipped == []
    shuffled = order.sample(utterances, len(utterances))
    again, _ = assign_splits(shuffled, FRACTIONS, disjoint, stratify, seed=1)
    assert {u.id: u.split for u in again} == {u.id: u.split for u in assigned}


def test_another_seed_gives_another_split() -> None:
    splits = [[u.split for u in assign_splits(crossed(10, 10), FRACTIONS, seed=seed)[0]] for seed in (0, 0, 1)]
    assert splits[0] == splits[1] != splits[2]


def test_splits_of_the_corpus_are_kept_and_the_missing_ones_carved_from_train() -> None:
    utterances = [utterance(f"a{i}", split="train") for i in range(80)]
    utterances += [utterance(f"b{i}", split=None) for i in range(20)]
    utterances += [utterance(f"t{i}", split="test") for i in range(7)]
    assigned, _ = assign_splits(utterances, FRACTIONS)
    assert counts(assigned) == {"train": 80, "probe": 10, "dev": 10, "test": 7}
    assert {u.id for u in assigned if u.split == "test"} == {f"t{i}" for i in range(7)}


def test_a_corpus_with_all_its_splits_is_left_as_it_is() -> None:
    utterances = [utterance(f"{split}{i}", split=split) for split in SPLITS for i in range(3)]
    assert assign_splits(utterances, FRACTIONS) == (utterances, [])


def test_where_the_corpus_own_splits_overlap_test_stays_whole() -> None:
    utterances = [utterance(f"a{i}", "s", f"t{i}", "train") for i in range(20)]
    utterances += [utterance("d0", "s", "t0", "dev"), utterance("d1", "s", "new", "dev")]
    utterances += [utterance("x0", "s", "T0.", "test"), utterance("x1", "s", "t1", "test")]
    fractions = {"train": 0.8, "probe": 0.1, "dev": 0.05, "test": 0.05}
    assigned, skipped = assign_splits(utterances, fractions, "sentence")
    assert {s.id: s.reason for s in skipped} == {
        "a0": "shares its sentence with test",
        "a1": "shares its sentence with test",
        "d0": "shares its sentence with dev and test",
    }
    assert {u.id for u in assigned if u.split == "test"} == {"x0", "x1"}
    assert shared(assigned, "sentence") == set()


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ({"train": 0.8, "val": 0.1, "test": 0.1}, "name a split 'val'"),
        ({"train": 0.9, "test": 0.1}, "lack 'dev'"),
        ({"train": 0.8, "dev": 0.1, "test": 0.2}, "sum to 1"),
        ({"train": 1.2, "dev": -0.1, "test": -0.1}, "between 0 and 1"),
        ({"train": 0.0, "dev": 0.5, "test": 0.5}, "fraction of 'train' is 0"),
        ({"train": 0.9, "dev": 0.0, "test": 0.1}, "split 'dev' is empty; raise its fraction"),
        ({"train": 0.9, "dev": 0.1, "test": float("nan")}, "between 0 and 1"),
    ],
)
def test_fractions_that_cannot_be_are_refused(fractions: Mapping[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        assign_splits(crossed(10, 10), fractions)


def test_no_split_is_ever_empty() -> None:
    with pytest.raises(UserError, match="split 'dev' is empty"):
        assign_splits(crossed(2, 10), FRACTIONS, "speaker")
    with pytest.raises(UserError, match="split 'train' is empty"):
        assign_splits([utterance(f"x{i}", split="test") for i in range(9)], FRACTIONS)
    assigned, _ = assign_splits(crossed(1, 4), FRACTIONS)
    assert counts(assigned) == {"train": 1, "probe": 1, "dev": 1, "test": 1}


def test_a_class_left_out_of_a_split_is_refused() -> None:
    utterances = [*crossed(10, 10), utterance("rare0", style="rare"), utterance("rare1", style="rare")]
    with pytest.raises(UserError, match=r"split '(probe|dev|test)' has no utterance with style 'rare'"):
        assign_splits(utterances, FRACTIONS, stratify="style")
    with pytest.raises(UserError, match="speaker cannot be stratified by and kept disjoint"):
        assign_splits(crossed(10, 10), FRACTIONS, "speaker", stratify="speaker")


def test_what_disjoint_and_stratify_need_must_be_there() -> None:
    mute = Utterance("mute", Path("/m.wav"))
    with pytest.raises(UserError, match="needs the speaker of every utterance; 'mute' has none"):
        assign_splits([*crossed(4, 4), mute], FRACTIONS, "speaker")
    with pytest.raises(UserError, match="needs the sentence of every utterance; 'mute' has none"):
        assign_splits([*crossed(4, 4), mute], FRACTIONS, "sentence")
    with pytest.raises(UserError, match="no utterance has the label 'accent'"):
        assign_splits(crossed(4, 4), FRACTIONS, stratify="accent")
    with pytest.raises(UserError, match="disjoint is 'accent'"):
        assign_splits(crossed(4, 4), FRACTIONS, "accent")  # type: ignore[arg-type]

"""Fewer clips: limits hold, the draw is fixed, and nothing goes without a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clips import write_clip

from disentangle_lightning.corpus.manifest import Corpus, Skipped, Utterance
from disentangle_lightning.corpus.selection import select, usable
from disentangle_lightning.errors import UserError

NOWHERE = Path("/none.wav")


def ids(corpus: Corpus) -> list[str]:
    return [u.id for u in corpus.utterances]


def corpus(**sizes: int) -> Corpus:
    return Corpus([Utterance(f"{s}{i:03d}", NOWHERE, split=s) for s, n in sizes.items() for i in range(n)])


def test_no_limit_keeps_everything_and_opens_nothing() -> None:
    found = Corpus([Utterance("a", NOWHERE)], [Skipped("b", "why")])
    assert select(found) == found


def test_so_many_of_each_named_split_are_drawn_in_their_order() -> None:
    drawn = select(corpus(train=50, dev=5, test=20), clips={"train": 10, "test": 30})
    assert [sum(id.startswith(s) for id in ids(drawn)) for s in ("train", "dev", "test")] == [10, 5, 20]
    assert ids(drawn) == [id for id in ids(corpus(train=50, dev=5, test=20)) if id in ids(drawn)]
    assert ids(drawn)[:10] != ids(corpus(train=10))  # not simply the first
    assert drawn.skipped == []


def test_the_draw_depends_on_ids_only_and_a_larger_one_holds_a_smaller() -> None:
    everything = corpus(train=50)
    backwards = Corpus(everything.utterances[::-1])
    ten = ids(select(everything, clips={"train": 10}))
    assert sorted(ids(select(backwards, clips={"train": 10}))) == sorted(ten)
    assert set(ten) < set(ids(select(everything, clips={"train": 20})))


def test_long_and_broken_clips_are_replaced_in_the_draw_and_listed(tmp_path: Path) -> None:
    clips = [write_clip(tmp_path / f"{i}.flac", 0.2 if i % 2 else 0.1) for i in range(10)]
    (tmp_path / "4.flac").write_bytes(b"no sound")
    found = Corpus([Utterance(str(i), clip, split="train") for i, clip in enumerate(clips)])
    everything = select(found, max_seconds=0.1)
    assert ids(everything) == ["0", "2", "6", "8"]
    reasons = {s.id: s.reason for s in everything.skipped}
    assert reasons.keys() == set("134579")
    assert reasons["1"] == "lasts 0.20 s, more than max_seconds 0.1"
    assert "4.flac cannot be decoded" in reasons["4"]
    assert set(ids(select(found, max_seconds=0.1, clips={"train": 3}))) < {"0", "2", "6", "8"}


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_seconds": 0}, "'max_seconds' is 0"),
        ({"max_seconds": float("nan")}, "'max_seconds' is nan"),
        ({"max_seconds": "14"}, "'max_seconds' is '14'"),
        ({"clips": {"training": 5}}, "'clips' is {'training': 5}"),
        ({"clips": [5]}, r"'clips' is \[5\]"),
        ({"clips": {"train": 0}}, "'clips.train' is 0"),
        ({"clips": {"train": True}}, "'clips.train' is True"),
        ({"clips": {"dev": 5}}, "split 'dev', of which the corpus has no utterance"),
    ],
)
def test_limits_that_are_none_are_refused(limits: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        select(corpus(train=3), **limits)


def test_a_corpus_of_nothing_and_one_of_doubles_are_refused() -> None:
    with pytest.raises(UserError, match="folder x has no utterance that can be used; the first of 2 problems: one"):
        usable(Corpus([], [Skipped("a", "one"), Skipped("b", "two")]), "folder x")
    with pytest.raises(UserError, match=r"folder x has no utterance that can be used$"):
        usable(Corpus([]), "folder x")
    with pytest.raises(UserError, match="two utterances 'a'"):
        usable(Corpus([Utterance("a", NOWHERE), Utterance("b", NOWHERE), Utterance("a", NOWHERE)]), "folder x")

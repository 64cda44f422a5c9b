"""Who and what was heard before the test: what decides how far a figure of privacy reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.tokenizer import fold_text


@dataclass(frozen=True)
class Exposure:
    """Speakers, or sentences, of the test split.

    Attributes:
        tested: how many there are.
        by_stages: how many of them occur in `train` or `dev`.
        by_attackers: how many of them occur in `probe`.
    """

    tested: int
    by_stages: int
    by_attackers: int


def speakers_heard(utterances: Iterable[Utterance]) -> Exposure:
    """How many speakers of the test were heard before it."""
    return _exposure(utterances, lambda u: u.speaker or "")


def sentences_heard(utterances: Iterable[Utterance]) -> Exposure:
    """How many sentences of the test were heard before it; case, punctuation and spacing make no other sentence."""
    return _exposure(utterances, lambda u: fold_text(u.transcription or ""))


def what_was_tested(speakers: Exposure, sentences: Exposure, stage1_given: bool) -> list[str]:
    """How far the figures reach, in words that claim no more than was tested.

    Args:
        stage1_given: whether Stage 1 was trained elsewhere, on speech that is not among the run's.
    """
    notes = []
    if speakers.tested == 0:
        notes.append("No speaker of the test is known: verification was not tried, and intervals are over utterances.")
    else:
        stages = f"the stages were trained or selected on {_of(speakers.by_stages, speakers.tested)}"
        attackers = f"the attackers' own speech has {_of(speakers.by_attackers, speakers.tested)}"
        notes.append(f"The test has {_count(speakers.tested, 'speaker')}: {stages}; {attackers}.")
        notes.append(
            "Speakers that no stage heard were not tested, so nothing is said about them."
            if speakers.by_stages == speakers.tested
            else "No stage heard the speakers of the test."
            if speakers.by_stages == 0
            else "Heard and unheard speakers are not told apart in these figures."
        )
    if sentences.tested:
        stages = f"the stages were trained or selected on {_of(sentences.by_stages, sentences.tested)}"
        attackers = f"the attackers' own speech has {_of(sentences.by_attackers, sentences.tested)}"
        notes.append(f"The test has {_count(sentences.tested, 'sentence')}: {stages}; {attackers}.")
    if stage1_given:
        notes.append("Stage 1 was trained elsewhere; whom it heard there is not counted.")
    notes.append("Whom the speech encoder heard when it was trained is not known here.")
    return notes


def _exposure(utterances: Iterable[Utterance], key: Callable[[Utterance], str]) -> Exposure:
    heard: dict[str, set[str]] = {"stages": set(), "probe": set(), "test": set()}
    for u in utterances:
        place = "stages" if u.split in ("train", "dev") else u.split
        if place in heard and key(u):
            heard[place].add(key(u))
    tested = heard["test"]
    return Exposure(len(tested), len(tested & heard["stages"]), len(tested & heard["probe"]))


def _of(part: int, whole: int) -> str:
    return "none of them" if part == 0 else "all of them" if part == whole else f"{part} of them"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

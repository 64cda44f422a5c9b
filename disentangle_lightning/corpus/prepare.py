"""From what a reader found to what can be trained on: letters chosen, the unspeakable left out, splits assigned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

from disentangle_lightning.corpus.checks import drop_unspeakable
from disentangle_lightning.corpus.manifest import TRAINING_SPLITS, Corpus, Skipped, Utterance
from disentangle_lightning.corpus.numbers import Numbers
from disentangle_lightning.corpus.splits import Disjoint, ProbeFrom, assign_splits
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET, CTCTokenizer, fold_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import SplitSettings

AUTO = "auto"
_STRICTEST_FIRST: tuple[Disjoint, ...] = ("speaker+sentence", "speaker", "sentence")
_NEAR = 2.0
"""A split may be so many times larger or smaller than its fraction, where whole speakers or sentences are dealt."""
_ENOUGH_SENTENCES = 10
"""Of so few as the ten digits, a test on one or two that were never heard would say nothing."""

Check = Callable[[Sequence[Utterance]], None]
"""Raises UserError where utterances with these splits cannot be learnt from."""


def choose_alphabet(utterances: Sequence[Utterance]) -> str:
    """The English alphabet if every letter of the training transcriptions is in it, else their characters.

    A letter is what Unicode calls one. Digits and symbols alone do not make a text foreign: with the English
    alphabet they are dropped, as `CTCTokenizer.normalize` says.
    """
    texts = [u.transcription for u in utterances if u.split in TRAINING_SPLITS and u.transcription]
    english = CTCTokenizer()
    if any(character.isalpha() for text in texts for character in english.unknown(text)):
        return CTCTokenizer.from_transcriptions(texts).alphabet
    return ENGLISH_ALPHABET


def divide(
    utterances: Sequence[Utterance], splits: SplitSettings, check: Check = lambda divided: None
) -> tuple[list[Utterance], list[Skipped]]:
    """Assign the splits, with `disjoint: auto` the most honest ones that the corpus allows.

    These are the first of speakers and sentences apart, speakers apart, sentences apart, that leaves no utterance out,
    keeps every split that is made within a factor of two of its fraction, and passes `check`; or else splits that share
    both. So nobody who is tested was heard in training, unless who speaks is to be learnt. Sentences are kept apart
    only where the test has ten of them or more.

    Raises:
        UserError: the splits cannot be assigned (see `assign_splits`).
    """

    def by(disjoint: Disjoint | None) -> tuple[list[Utterance], list[Skipped]]:
        probe_from = cast(ProbeFrom, splits.probe_from)
        return assign_splits(utterances, splits.fractions, disjoint, splits.stratify, splits.seed, probe_from)

    if splits.disjoint != AUTO:
        return by(cast(Disjoint | None, splits.disjoint))
    plain, _ = by(None)
    wanted = Counter(u.split for u in plain)
    for disjoint in _STRICTEST_FIRST:
        try:
            divided, left_out = by(disjoint)
            check(divided)
        except UserError:
            continue
        sizes = Counter(u.split for u in divided)
        near = all(size / _NEAR <= sizes[split] <= size * _NEAR for split, size in wanted.items())
        few = "sentence" in disjoint and _sentences_tested(divided) < _ENOUGH_SENTENCES
        if near and not few and not left_out:
            return divided, []
    return plain, []


def prepare(
    found: Corpus,
    splits: SplitSettings | None,
    alphabet: str | None = None,
    check: Check = lambda divided: None,
    numbers: Numbers | None = None,
) -> tuple[Corpus, CTCTokenizer]:
    """Leave out what has no letter of the alphabet, assign the splits, and then cut numbers into classes.

    Args:
        found: what a reader found.
        splits: None leaves every utterance in the split it came with, or in none.
        alphabet: None chooses it, from the training splits where there are any and from everything else.
        check: see `divide`.
        numbers: what becomes a label in quartiles, once it is known who trains.

    Returns:
        The corpus, with the utterances that were left out among the skipped; and the tokenizer of the alphabet.

    Raises:
        UserError: nothing can be used, or the splits cannot be assigned (see `assign_splits`).
    """
    before = CTCTokenizer(_of_everything(found.utterances) if alphabet is None else alphabet)
    utterances, unspeakable = drop_unspeakable(found.utterances, before)
    skipped = [*found.skipped, *unspeakable]
    if not utterances:
        raise UserError(f"the corpus has no usable utterance: {len(skipped)} were skipped")
    numbers = numbers or Numbers({}, {})
    if splits is not None:
        utterances, left_out = divide(utterances, splits, lambda divided: check(numbers.as_labels(divided)))
        skipped += left_out
    if alphabet is None:
        trains = any(u.split in TRAINING_SPLITS for u in utterances)
        alphabet = choose_alphabet(utterances) if trains else _of_everything(utterances)
    return Corpus(numbers.as_labels(utterances), skipped), CTCTokenizer(alphabet)


def _sentences_tested(utterances: Sequence[Utterance]) -> int:
    return len({fold_text(u.transcription or "") for u in utterances if u.split == "test"})


def _of_everything(utterances: Sequence[Utterance]) -> str:
    return choose_alphabet([replace(u, split="train") for u in utterances])

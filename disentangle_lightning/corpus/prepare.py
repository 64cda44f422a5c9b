"""From what a reader found to what can be trained on: letters chosen, the unspeakable left out, splits assigned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from disentangle_lightning.corpus.checks import drop_unspeakable
from disentangle_lightning.corpus.manifest import Corpus, Utterance
from disentangle_lightning.corpus.splits import Disjoint, assign_splits
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET, CTCTokenizer
from disentangle_lightning.errors import UserError
from disentangle_lightning.settings import SplitSettings

TRAINING_SPLITS = ("train", "probe")
"""Alphabet and classes come from both, so that stages and probes agree on every id."""


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


def prepare(found: Corpus, splits: SplitSettings | None, alphabet: str | None = None) -> tuple[Corpus, CTCTokenizer]:
    """Leave out what has no letter of the alphabet, and assign the splits.

    Args:
        found: what a reader found.
        splits: None leaves every utterance in the split it came with, or in none.
        alphabet: None chooses it, from the training splits where there are any and from everything else.

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
    if splits is not None:
        disjoint = cast(Disjoint | None, splits.disjoint)
        utterances, left_out = assign_splits(utterances, splits.fractions, disjoint, splits.stratify, splits.seed)
        skipped += left_out
    if alphabet is None:
        trains = any(u.split in TRAINING_SPLITS for u in utterances)
        alphabet = choose_alphabet(utterances) if trains else _of_everything(utterances)
    return Corpus(utterances, skipped), CTCTokenizer(alphabet)


def _of_everything(utterances: Sequence[Utterance]) -> str:
    return choose_alphabet([replace(u, split="train") for u in utterances])

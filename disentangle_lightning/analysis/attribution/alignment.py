"""Where each word and letter of a transcription is, as Stage 1's own CTC logits have it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from disentangle_lightning.corpus.tokenizer import BLANK, WORD_DELIMITER, CTCTokenizer, frames_needed


@dataclass(frozen=True)
class Span:
    """A word or letter from frame `begin` up to, but without, frame `end`.

    Attributes:
        probability: that Stage 1 gave to its letters, on average over their frames.
    """

    text: str
    begin: int
    end: int
    probability: float


@dataclass(frozen=True)
class Alignment:
    """The words of an utterance in their order, and its letters, `|` between words among them."""

    words: list[Span]
    letters: list[Span]


@torch.no_grad()
def align(logits: Tensor, text: str, tokenizer: CTCTokenizer) -> Alignment | None:
    """The most probable alignment of a transcription with the frames, by torchaudio's forced alignment.

    It is as good as Stage 1 is at reading: a letter's frames are those in which CTC emits it, which is often late and
    for a frame or two, with blanks for the rest of the sound. So a word, from its first letter to its last, is rather
    found too short than too long, and its ends are no phonetic boundaries.

    Args:
        logits: [T, V] of Stage 1, not normalised.
        text: with at least one letter of the tokenizer.

    Returns:
        None where it is infeasible: there are fewer frames than letters and blanks between equal neighbours.
    """
    from torchaudio.functional import forced_align, merge_tokens

    ids = tokenizer.encode(text)
    if frames_needed(ids) > len(logits):
        return None
    path, log_probabilities = forced_align(logits.float().log_softmax(1)[None], torch.tensor([ids]), blank=BLANK)
    letters = [
        Span(tokenizer.tokens[found.token], found.start, found.end, found.score)
        for found in merge_tokens(path[0], log_probabilities[0].exp(), blank=BLANK)
    ]
    words: list[list[Span]] = [[]]
    for letter in letters:
        if letter.text == WORD_DELIMITER:
            words.append([])
        else:
            words[-1].append(letter)
    return Alignment([_joined(word) for word in words], letters)


def _joined(letters: list[Span]) -> Span:
    frames = [letter.end - letter.begin for letter in letters]
    probability = math.fsum(n * letter.probability for n, letter in zip(frames, letters, strict=True)) / sum(frames)
    return Span("".join(letter.text for letter in letters), letters[0].begin, letters[-1].end, probability)

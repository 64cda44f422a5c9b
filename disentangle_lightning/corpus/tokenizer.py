"""Letters for CTC: normalise a transcription, map it to ids and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

ENGLISH_ALPHABET = "'ABCDEFGHIJKLMNOPQRSTUVWXYZ"
PUNCTUATION = ',?.!-;:"'
"""Removed before anything else, as in arXiv 2410.03037."""

BLANK = 0
WORD_DELIMITER = "|"


class CTCTokenizer:
    """Upper-case letters, `|` for the space between words, and the CTC blank at id 0.

    Ids: 0 is the blank, 1 the word delimiter, then the alphabet in its order.

    >>> tokenizer = CTCTokenizer("ABC")
    >>> tokenizer.encode("a cab!")
    [2, 1, 4, 2, 3]
    >>> tokenizer.decode([2, 1, 4, 2, 3])
    'A CAB'
    """

    def __init__(self, alphabet: str = ENGLISH_ALPHABET) -> None:
        if len(set(alphabet)) != len(alphabet) or WORD_DELIMITER in alphabet or " " in alphabet:
            raise ValueError(f"alphabet {alphabet!r} repeats a letter or holds a space or '{WORD_DELIMITER}'")
        self.alphabet = alphabet
        self.tokens = ["<blank>", WORD_DELIMITER, *alphabet]
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_transcriptions(cls, transcriptions: Iterable[str]) -> CTCTokenizer:
        """An alphabet of every letter that occurs, sorted: for languages other than English."""
        letters = {c for text in transcriptions for c in _prepare(text) if c != " "}
        return cls("".join(sorted(letters - {WORD_DELIMITER})))

    def normalize(self, text: str) -> str:
        """Upper case, punctuation removed, characters outside the alphabet dropped, spaces single.

        What is dropped is reported by `unknown`; an empty result means that nothing can be said.
        """
        kept = "".join(c for c in _prepare(text) if c == " " or c in self._ids)
        return " ".join(kept.split())

    def unknown(self, text: str) -> Counter[str]:
        """The characters that `normalize` drops from a text, apart from punctuation, with their counts."""
        return Counter(c for c in _prepare(text) if c != " " and c not in self._ids)

    def encode(self, text: str) -> list[int]:
        """The ids of a transcription, normalised first."""
        return [self._ids[WORD_DELIMITER if c == " " else c] for c in self.normalize(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids from which repeats and blanks are already collapsed."""
        text = "".join(self.tokens[i] for i in ids if i != BLANK)
        return " ".join(text.replace(WORD_DELIMITER, " ").split())


def frames_needed(ids: Sequence[int]) -> int:
    """The fewest frames in which CTC can emit `ids`: one each, and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in zip(ids, ids[1:], strict=False))


def _prepare(text: str) -> str:
    table = str.maketrans({c: None for c in PUNCTUATION} | {"’": "'"})
    return " ".join(text.translate(table).upper().split())

"""Letters for CTC: normalise a transcription, map it to ids and back."""

from __future__ import annotations

import itertools
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

from disentangle_lightning.errors import UserError

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
        for letter in alphabet:
            if letter == WORD_DELIMITER or fold_text(letter) != letter or alphabet.count(letter) > 1:
                raise UserError(
                    f"alphabet {alphabet!r}: {letter!r} occurs twice, or can never occur in a transcription; "
                    "an alphabet has upper-case letters, once each, without space, punctuation and '|'"
                )
        self.alphabet = alphabet
        self.tokens = ["<blank>", WORD_DELIMITER, *alphabet]
        self._ids = {token: i for i, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def from_transcriptions(cls, transcriptions: Iterable[str]) -> CTCTokenizer:
        """An alphabet of every letter that occurs, sorted: for languages other than English."""
        letters = {c for text in transcriptions for c in fold_text(text) if c != " "}
        return cls("".join(sorted(letters - {WORD_DELIMITER})))

    def normalize(self, text: str) -> str:
        """Upper case, punctuation removed, characters outside the alphabet dropped, spaces single.

        What is dropped is reported by `unknown`; an empty result means that nothing can be said.
        """
        kept = "".join(c for c in fold_text(text) if c == " " or c in self.alphabet)
        return " ".join(kept.split())

    def unknown(self, text: str) -> Counter[str]:
        """The characters that `normalize` drops from a text, apart from punctuation, with their counts."""
        return Counter(c for c in fold_text(text) if c != " " and c not in self.alphabet)

    def encode(self, text: str) -> list[int]:
        """The ids of a transcription, normalised first."""
        return [self._ids[WORD_DELIMITER if c == " " else c] for c in self.normalize(text)]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids from which repeats and blanks are already collapsed."""
        text = "".join(self.tokens[i] for i in ids if i != BLANK)
        return " ".join(text.replace(WORD_DELIMITER, " ").split())


def frames_needed(ids: Sequence[int]) -> int:
    """The fewest frames in which CTC can emit `ids`: one each, and a blank between equal neighbours."""
    return len(ids) + sum(a == b for a, b in itertools.pairwise(ids))


def fold_text(text: str) -> str:
    """What two transcriptions of the same words share: upper case, composed letters (NFC), no punctuation,
    single spaces; in any language."""
    table = str.maketrans(dict.fromkeys(PUNCTUATION) | {"\N{RIGHT SINGLE QUOTATION MARK}": "'"})
    return " ".join(unicodedata.normalize("NFC", text.translate(table).upper()).split())

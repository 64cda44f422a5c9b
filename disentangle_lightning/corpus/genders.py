"""One pair of words for what corpora write as F, female or female_feminine."""

from __future__ import annotations

_WORDS = {
    "f": "female", "female": "female", "female_feminine": "female", "woman": "female",
    "m": "male", "male": "male", "male_masculine": "male", "man": "male",
}  # fmt: skip

_UNKNOWN = ("", "do_not_wish_to_say", "none", "nan", "unknown")


def gender_word(written: str) -> str | None:
    """`female` or `male`, another answer as it was given, or None where none was given.

    >>> gender_word("F"), gender_word("male_masculine"), gender_word("non-binary"), gender_word("do_not_wish_to_say")
    ('female', 'male', 'non-binary', None)
    """
    word = written.strip().lower()
    return None if word in _UNKNOWN else _WORDS.get(word, word)

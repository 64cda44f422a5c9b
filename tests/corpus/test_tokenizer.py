"""Letters for CTC: known answers, and nothing lost without being counted."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from disentangle_lightning.corpus.tokenizer import CTCTokenizer, fold_text, frames_needed
from disentangle_lightning.errors import UserError


def test_ids_are_blank_then_word_delimiter_then_the_alphabet() -> None:
    tokenizer = CTCTokenizer()
    assert len(tokenizer) == 29
    assert tokenizer.tokens[:4] == ["<blank>", "|", "'", "A"]
    assert tokenizer.encode("It's a dog.") == [11, 22, 2, 21, 1, 3, 1, 6, 17, 9]
    assert tokenizer.decode([0, 11, 22, 0, 2, 21, 1, 1, 3, 1]) == "IT'S A"


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("Hello,  World!", "HELLO WORLD"),
        ("  don\N{RIGHT SINGLE QUOTATION MARK}t; \"stop\" - now\t", "DON'T STOP NOW"),
        ("well-known", "WELLKNOWN"),
        ("a|b", "AB"),
        ("4 dogs", "DOGS"),
        ("42 ...", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_normalisation_is_that_of_the_paper(text: str, normalized: str) -> None:
    assert CTCTokenizer().normalize(text) == normalized


def test_unknown_characters_are_counted_and_punctuation_is_not() -> None:
    assert CTCTokenizer().unknown("Café 42, naïve café? a|b") == {"É": 2, "4": 1, "2": 1, "Ï": 1, "|": 1}


@pytest.mark.parametrize(
    ("transcriptions", "alphabet"),
    [
        (["Straße, größer"], "AEGRSTÖ"),
        (["Привет!", "мир"], "ВЕИМПРТ"),
        (["nǐ hǎo"], "HNOǍǏ"),
        (["你好"], "你好"),
        (["a|b"], "AB"),
    ],
)
def test_an_alphabet_is_read_off_other_languages(transcriptions: list[str], alphabet: str) -> None:
    tokenizer = CTCTokenizer.from_transcriptions(transcriptions)
    assert tokenizer.alphabet == alphabet
    assert tokenizer.decode(tokenizer.encode(transcriptions[0])) == tokenizer.normalize(transcriptions[0]) != ""


def test_composed_and_decomposed_letters_are_one() -> None:
    composed, decomposed = "né", unicodedata.normalize("NFD", "né")
    assert composed != decomposed
    assert fold_text(composed) == fold_text(decomposed)
    assert CTCTokenizer.from_transcriptions([composed, decomposed]).alphabet == "NÉ"


@given(st.text(max_size=40))
def test_any_text_survives_encoding_as_its_normal_form(text: str) -> None:
    for tokenizer in (CTCTokenizer(), CTCTokenizer.from_transcriptions([text])):
        normalized = tokenizer.normalize(text)
        assert tokenizer.decode(tokenizer.encode(text)) == normalized == tokenizer.normalize(normalized)
        letters = sum(c != " " for c in fold_text(text))
        assert sum(c != " " for c in normalized) + sum(tokenizer.unknown(text).values()) == letters


@pytest.mark.parametrize("alphabet", ["AAB", "AB|", "A B", "abc", "AB-"])
def test_an_alphabet_that_could_not_work_is_refused(alphabet: str) -> None:
    with pytest.raises(UserError, match="alphabet"):
        CTCTokenizer(alphabet)


@pytest.mark.parametrize(("ids", "frames"), [([], 0), ([5], 1), ([5, 5], 3), ([5, 6, 6, 6], 6), ([5, 6, 5], 3)])
def test_ctc_needs_a_blank_between_equal_neighbours(ids: list[int], frames: int) -> None:
    assert frames_needed(ids) == frames

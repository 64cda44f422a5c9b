"""The sentence grammar."""

from __future__ import annotations

from disentangle_lightning.corpus.sentences import make_sentences


def test_sentences_are_different_and_the_same_on_every_call() -> None:
    sentences = make_sentences(500, seed=3)
    assert len(set(sentences)) == 500
    assert make_sentences(500, seed=3) == sentences
    assert make_sentences(200, seed=3) == sentences[:200]
    assert make_sentences(500, seed=4) != sentences


def test_german_has_its_own_words_and_letters() -> None:
    german, english = (
        {word for sentence in make_sentences(500, language=language) for word in sentence.split()}
        for language in ("de", "en-us")
    )
    assert len(german) > 90
    assert german & english <= {"Peter", "Martha", "Felix", "Julia", "Boris", "Hammer"}
    assert set("äöü") <= set("".join(german))
    assert set("äöü").isdisjoint("".join(english))


def test_corpus_and_encoder_share_no_sentence_whatever_the_seeds() -> None:
    corpus = {s for seed in range(4) for s in make_sentences(2_000, seed, "corpus")}
    encoder = {s for seed in range(4) for s in make_sentences(2_000, seed, "encoder")}
    assert corpus.isdisjoint(encoder)


def test_the_words_are_varied() -> None:
    words = [word for sentence in make_sentences(200) for word in sentence.split()]
    assert len(set(words)) > 100
    assert {len(sentence.split()) for sentence in make_sentences(200)} <= {5, 6, 7}

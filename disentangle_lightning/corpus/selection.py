"""Fewer clips of a corpus: none that is too long, and so many of each split."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from disentangle_lightning.corpus.audio import utterance_seconds
from disentangle_lightning.corpus.manifest import SPLITS, Corpus, Skipped, Utterance
from disentangle_lightning.errors import UserError


def select(corpus: Corpus, max_seconds: float | None = None, clips: Mapping[str, int] | None = None) -> Corpus:
    """The utterances of at most `max_seconds`, and at most `clips[split]` of them in a split.

    Which ones are drawn depends on nothing but their ids (see `in_drawing_order`), and 1,000 drawn utterances are among
    the 4,000 that a larger number draws. The utterances keep their order.

    Args:
        corpus: what a reader found.
        max_seconds: None keeps every length, and then no sound file is opened.
        clips: by split; a split that is not named keeps all its utterances.

    Returns:
        The corpus, with what is too long or cannot be opened among the skipped. Utterances that were not drawn are not
        listed: nothing is wrong with them.

    Raises:
        UserError: a limit is not a number above zero, or a split is named that the corpus does not have.
    """
    clips = check_limits(max_seconds, clips)
    members = Counter(u.split for u in corpus.utterances)
    if absent := [split for split in clips if not members[split]]:
        raise UserError(f"field 'clips' names the split '{absent[0]}', of which the corpus has no utterance")
    kept: set[str] = set()
    skipped = list(corpus.skipped)
    drawn: Counter[str | None] = Counter()
    for u in in_drawing_order(corpus.utterances) if clips else corpus.utterances:
        if u.split in clips and drawn[u.split] == clips[u.split]:
            continue
        if reason := too_long(u, max_seconds):
            skipped.append(Skipped(u.id, reason))
            continue
        drawn[u.split] += 1
        kept.add(u.id)
    return Corpus([u for u in corpus.utterances if u.id in kept], skipped)


def in_drawing_order(utterances: Sequence[Utterance]) -> list[Utterance]:
    """A fixed random order: by the SHA-256 of the id."""
    return sorted(utterances, key=lambda u: drawing_key(u.id))


def drawing_key(name: str) -> bytes:
    """What a fixed random order of names is sorted by."""
    return hashlib.sha256(name.encode()).digest()


def too_long(utterance: Utterance, max_seconds: float | None) -> str | None:
    """Why an utterance is no clip of at most `max_seconds`, or None where it is one."""
    if max_seconds is None:
        return None
    try:
        seconds = utterance_seconds(utterance)
    except UserError as error:
        return str(error)
    return f"lasts {seconds:.2f} s, more than max_seconds {max_seconds:g}" if seconds > max_seconds else None


def check_limits(max_seconds: float | None, clips: Mapping[str, int] | None) -> dict[str, int]:
    """Refuse limits that are none; returns `clips`, empty where it is None."""
    if max_seconds is not None and (type(max_seconds) not in (int, float) or not max_seconds > 0):
        raise UserError(f"field 'max_seconds' is {max_seconds!r}; expected a number of seconds above zero")
    if clips is None:
        return {}
    if not isinstance(clips, Mapping) or not clips.keys() <= set(SPLITS):
        raise UserError(f"field 'clips' is {clips!r}; expected numbers by split, such as {{train: 4000, test: 1000}}")
    for split, number in clips.items():
        if type(number) is not int or number < 1:
            raise UserError(f"field 'clips.{split}' is {number!r}; expected a whole number above zero")
    return dict(clips)


def usable(corpus: Corpus, what: str) -> Corpus:
    """The corpus itself, unless nothing in it can be used.

    Raises:
        UserError: there is no utterance, and the first reason why; or two utterances have one id.
    """
    if twice := [id for id, number in Counter(u.id for u in corpus.utterances).items() if number > 1]:
        raise UserError(f"{what} has two utterances '{twice[0]}'; ids must be unique")
    if corpus.utterances:
        return corpus
    reason = f"; the first of {len(corpus.skipped)} problems: {corpus.skipped[0].reason}" if corpus.skipped else ""
    raise UserError(f"{what} has no utterance that can be used{reason}")

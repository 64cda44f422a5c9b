"""What is known of each utterance: its labels, and letters of its text as factors of content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from disentangle_lightning.analysis.information.readers import Classes, Floats
from disentangle_lightning.analysis.latents import SplitLatents

MOST_LETTERS = 8


@dataclass(frozen=True)
class Factor:
    """Something that is known of each utterance.

    Attributes:
        kind: `text` or `label`.
        fitted, tested: places in `count` classes, of the utterances of both splits; -1 where it is missing.
    """

    name: str
    kind: Literal["text", "label"]
    fitted: Classes
    tested: Classes
    count: int

    @property
    def key(self) -> str:
        """Its name in the names of figures."""
        return self.name.replace(" ", "_")


def all_factors(probe: SplitLatents, test: SplitLatents) -> list[Factor]:
    """The text where texts recur, its letters, and the labels."""
    texts = probe.transcriptions, test.transcriptions
    return [*text_factors(*texts), *letter_factors(*texts), *label_factors(probe, test)]


def label_factors(probe: SplitLatents, test: SplitLatents) -> list[Factor]:
    """The labels of the data of which either split has two classes or more."""
    factors = [
        Factor(name, "label", probe.labels[name], test.labels[name], len(classes))
        for name, classes in probe.label_names.items()
    ]
    return [factor for factor in factors if min(_classes(factor.fitted), _classes(factor.tested)) > 1]


def texts_recur(probe: Sequence[str | None], test: Sequence[str | None]) -> bool:
    """Whether all is transcribed, and half of the test utterances say what one of the probes' split says."""
    known = set(probe)
    return None not in known and float(np.mean([text in known for text in test])) >= 0.5


def text_factors(probe: Sequence[str | None], test: Sequence[str | None]) -> list[Factor]:
    """The text as a whole, where texts recur, as in a corpus of commands or digits; nothing elsewhere."""
    places = {text: place for place, text in enumerate(dict.fromkeys(probe))}
    if not texts_recur(probe, test) or len(places) < 2:
        return []
    fitted, tested = (np.array([places.get(text, -1) for text in side], dtype=np.int64) for side in (probe, test))
    return [Factor("text", "text", fitted, tested, len(places))]


def letter_factors(probe: Sequence[str | None], test: Sequence[str | None]) -> list[Factor]:
    """For each of the commonest letters, whether an utterance has more of it than most.

    More is a share of the utterance's letters above the median of the probes' split: the mean over frames of a latent
    that writes every letter at its place shows shares. Letters that less than a quarter of the utterances have more of
    are left out.
    """
    counts = Counter(letter for text in probe for letter in text or "" if not letter.isspace())
    factors: list[Factor] = []
    for letter, _ in counts.most_common():
        shares = _shares(letter, probe)
        middle = float(np.nanmedian(shares))
        above = (shares > middle)[~np.isnan(shares)]
        if 0.25 <= above.mean() <= 0.75 and len(factors) < MOST_LETTERS:
            fitted, tested = (
                np.where(np.isnan(part), -1, part > middle).astype(np.int64) for part in (shares, _shares(letter, test))
            )
            factors.append(Factor(f"letter {letter}", "text", fitted, tested, 2))
    return factors


def _shares(letter: str, texts: Sequence[str | None]) -> Floats:
    """Of each utterance's letters; NaN where there are none."""
    letters = ["".join((text or "").split()) for text in texts]
    return np.array([text.count(letter) / len(text) if text else np.nan for text in letters])


def _classes(places: Classes) -> int:
    return len(np.unique(places[places >= 0]))

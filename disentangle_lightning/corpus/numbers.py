"""Labels that are numbers, from the corpus or measured by Praat, and the classes they become once splits are known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from disentangle_lightning.corpus.manifest import Utterance
from disentangle_lightning.corpus.praat import MEASURES, Track, measure_corpus
from disentangle_lightning.corpus.quartiles import quartile_edges, with_quartiles
from disentangle_lightning.errors import UserError


@dataclass(frozen=True)
class Numbers:
    """A number for some of the utterances, for each of some names.

    Attributes:
        of: {name: what it is, in words}.
        values: {utterance id: {name: value}}; NaN, or no entry, where it is not known.
    """

    of: Mapping[str, str]
    values: Mapping[str, Mapping[str, float]]

    def edges(self, utterances: Sequence[Utterance]) -> dict[str, list[float]]:
        """{name: `quartile_edges` of the split train}: what dev, test and the probes hear decides nothing."""
        trained = [self.values.get(u.id, {}) for u in utterances if u.split == "train"]
        return {name: quartile_edges([values.get(name, math.nan) for values in trained]) for name in self.of}

    def as_labels(self, utterances: Sequence[Utterance]) -> list[Utterance]:
        """The utterances, which have their splits, with each number's quartile as a label of its name."""
        return with_quartiles(utterances, self.values, self.edges(utterances))

    def describe(self, utterances: Sequence[Utterance]) -> dict[str, Any]:
        """{name: {of, edges}}, ready for `corpus.json`."""
        edges = self.edges(utterances)
        return {name: {"of": self.of[name], "edges": edges[name]} for name in self.of}


def read_numbers(utterances: Sequence[Utterance], names: Sequence[str], file: Path, track: Track = iter) -> Numbers:
    """The numbers of these names: labels of the corpus, or else measures of Praat.

    Audio that cannot be read has no measures; encoding leaves it out, and says why.

    Args:
        utterances: with or without splits.
        names: of labels, or of `MEASURES`.
        file: see `measure_corpus`; it is not touched where no name is a measure.
        track: shows progress over the clips that Praat measures.

    Raises:
        UserError: a name is neither a label nor a measure, a label's value is not a number, or the file holds measures
            of other audio.
    """
    labels = {label for u in utterances for label in u.labels}
    if unknown := [name for name in names if name not in labels and name not in MEASURES]:
        raise UserError(
            f"field 'quartiles' names '{unknown[0]}', which is neither a label of the corpus ("
            f"{', '.join(sorted(labels)) or 'it has none'}) nor a measure of Praat ({', '.join(MEASURES)})"
        )
    values = {u.id: {name: _number(u, name) for name in names if name in u.labels} for u in utterances}
    measured = [name for name in names if name not in labels]
    measures = measure_corpus(utterances, file, track, skip_unreadable=True) if measured else {}
    for id, of_clip in measures.items():
        values[id] |= {name: of_clip[name] for name in measured}
    return Numbers({name: MEASURES[name] if name in measured else f"the label {name}" for name in names}, values)


def _number(utterance: Utterance, name: str) -> float:
    try:
        return float(utterance.labels[name])
    except ValueError:
        raise UserError(
            f"utterance '{utterance.id}': label '{name}' is '{utterance.labels[name]}', which is no number, so field "
            "'quartiles' cannot cut it; write a number, or leave it empty"
        ) from None

"""The figures of attribution: what was explained, how faithfully, and what the attributions resemble."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.analysis.attribution.alignment import Alignment
from disentangle_lightning.analysis.attribution.clips import Clip
from disentangle_lightning.analysis.attribution.explanation import METHODS, Explanation
from disentangle_lightning.analysis.attribution.faithfulness import Curves
from disentangle_lightning.analysis.attribution.similarity import mean_with_interval, spearman

Floats = NDArray[np.float64]

RANDOM = "random"


def evidence_figures(name: str, explanations: Sequence[Explanation]) -> dict[str, float]:
    """What the log-odds are made of, in nats, and how well the parts sum up.

    `NAME.log_odds` of the predicted class and `NAME.from_nothing`, the same where no frame says anything;
    `NAME.ig_textual.evidence` and `NAME.ig_acoustic.evidence`, the sums of Integrated Gradients over the frames of
    either stream: what each contributed to the difference. `NAME.ig.completeness_error`: the mean of what they miss,
    over the mean size of that difference.

    `NAME.attention_textual.evenness` and `.attention_acoustic.evenness`: the perplexity of the attention over the
    number of frames, from near 0, where it looks at one, to 1, where it looks at all alike and its order means little.
    """
    figures: dict[str, float] = {}
    for kind in ("log_odds", "from_nothing"):
        figures |= mean_with_interval(f"{name}.{kind}", np.array([getattr(e, kind) for e in explanations]))
    for method in ("ig_textual", "ig_acoustic"):
        sums = np.array([e.scores[method].sum() for e in explanations])
        figures |= mean_with_interval(f"{name}.{method}.evidence", sums)
    for method in ("attention_textual", "attention_acoustic"):
        evenness = [_perplexity(e.scores[method]) / len(e.scores[method]) for e in explanations]
        figures |= mean_with_interval(f"{name}.{method}.evenness", np.array(evenness))
    missed = sum(e.completeness_error for e in explanations)
    explained = sum(abs(e.log_odds - e.from_nothing) for e in explanations)
    if explained > 0:
        figures[f"{name}.ig.completeness_error"] = missed / explained
    return figures


def _perplexity(weights: Floats) -> float:
    """exp of the entropy of weights that sum to one."""
    present = weights[weights > 0]
    return float(np.exp(-(present * np.log(present)).sum()))


def faithfulness_figures(name: str, traces: Mapping[str, Sequence[Curves]]) -> dict[str, float]:
    """`NAME.METHOD.deletion` and its kin (`Curves.figures`) for every attribution and for `random`.

    Beside them what is gained over random order, `NAME.METHOD.deletion_gain` and `.insertion_gain`, and of every pair
    what the first gains over the second, `NAME.METHOD_over_OTHER.deletion` and `.insertion`: positive where the first
    is more faithful. Differences are taken utterance by utterance before they are averaged.
    """
    figures: dict[str, float] = {}
    measured: dict[str, dict[str, Floats]] = {}
    for method, curves in traces.items():
        rows = [c.figures for c in curves]
        measured[method] = {measure: np.array([row[measure] for row in rows]) for measure in rows[0]}
        for measure, values in measured[method].items():
            figures |= mean_with_interval(f"{name}.{method}.{measure}", values)
    for first, second in itertools.combinations(measured, 2):
        gains = {
            "deletion": measured[second]["deletion"] - measured[first]["deletion"],
            "insertion": measured[first]["insertion"] - measured[second]["insertion"],
        }
        for measure, gain in gains.items():
            pair = f"{first}.{measure}_gain" if second == RANDOM else f"{first}_over_{second}.{measure}"
            figures |= mean_with_interval(f"{name}.{pair}", gain)
    return figures


def similarity_figures(
    name: str,
    explanations: Sequence[Explanation],
    clips: Sequence[Clip],
    alignments: Mapping[str, Alignment],
) -> dict[str, float]:
    """`NAME.METHOD.pitch`, `.intensity` and, where word scores were given, `.words`: rank correlations (`spearman`).

    Pitch over the voiced frames, intensity over all where Praat knows it; word scores with the mean of the attribution
    over the frames of each word. Each is the mean over utterances.

    Args:
        alignments: {utterance id: where its words are}.
    """
    figures: dict[str, float] = {}
    pairs = list(zip(explanations, clips, strict=True))
    for method in METHODS:
        found = {
            "pitch": [spearman(e.scores[method], clip.prosody.pitch) for e, clip in pairs],
            "intensity": [spearman(e.scores[method], clip.prosody.intensity) for e, clip in pairs],
            "words": [
                spearman(over_words(e.scores[method], alignments[clip.id]), clip.word_scores)
                for e, clip in pairs
                if clip.word_scores is not None and clip.id in alignments
            ],
        }
        for what, values in found.items():
            figures |= mean_with_interval(f"{name}.{method}.{what}", np.array(values))
    return figures


def over_words(scores: Floats, alignment: Alignment) -> Floats:
    """The mean score of the frames of each word."""
    return np.array([scores[word.begin : word.end].mean() for word in alignment.words])


def seed_figures(name: str, of_seeds: Sequence[Sequence[Explanation]]) -> dict[str, float]:
    """`NAME.METHOD.between_seeds`: how alike two trainings with other seeds rank an utterance's frames.

    Spearman's rank correlation (arXiv 2505.16406), the mean over pairs of seeds and over the utterances to which all
    seeds gave the same class: the others explain different things. `NAME.between_seeds.share` is their share.

    Args:
        of_seeds: for every seed the explanations of the same utterances.
    """
    together = list(zip(*of_seeds, strict=True))
    same = [several for several in together if len({e.target for e in several}) == 1]
    figures = {f"{name}.between_seeds.share": len(same) / len(together)}
    for method in METHODS:
        values = [
            np.mean([spearman(a.scores[method], b.scores[method]) for a, b in itertools.combinations(several, 2)])
            for several in same
        ]
        figures |= mean_with_interval(f"{name}.{method}.between_seeds", np.array(values))
    return figures


def alignment_figures(name: str, alignments: Mapping[str, Alignment | None]) -> dict[str, float]:
    """`NAME.aligned` and `NAME.infeasible`, counts of utterances, and `NAME.probability`.

    The last is what Stage 1 gave to the letters of the transcription in their frames, the mean over words and then
    over utterances: where it is low, boundaries are guesses.

    Args:
        alignments: of every utterance with a transcription; None where it is infeasible.
    """
    found = [a for a in alignments.values() if a is not None]
    figures = {f"{name}.aligned": float(len(found)), f"{name}.infeasible": float(len(alignments) - len(found))}
    means = np.array([np.mean([word.probability for word in a.words]) for a in found])
    return figures | mean_with_interval(f"{name}.probability", means)

"""The settings of every analysis, as they stand in YAML: plain data that imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class InformationSettings:
    """How much either latent carries, and how much the two share.

    Attributes:
        permutations: how often utterances are paired at random for the null distributions.
    """

    permutations: int = 200


ANALYSES: dict[str, type] = {
    "information": InformationSettings,
}
"""The analyses in the order in which `analyze all` makes them. NAME is the module or package analysis/NAME, whose
function `analyze(run, settings, folder)` returns an `AnalysisResult`."""

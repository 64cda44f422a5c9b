"""What a report says of the corpus of its run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CorpusFacts:
    """corpus.json: what the run was given, and what it had to leave out.

    Attributes:
        quartiles: {label: (what it is, upper bounds of all classes but the last)} of labels that were numbers.
    """

    splits: dict[str, dict[str, float]]
    shared: dict[str, dict[str, int]]
    labels: dict[str, dict[str, int]]
    quartiles: dict[str, tuple[str, list[float]]]
    skipped: list[tuple[str, str]]
    unknown_characters: dict[str, int]

    @classmethod
    def parse(cls, data: Any) -> CorpusFacts:
        """From what corpus.json holds; older runs counted nothing that is shared, and cut no quartiles.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it holds something else.
        """
        quartiles = data.get("quartiles", {})
        return cls(
            splits={str(s): {str(k): float(v) for k, v in facts.items()} for s, facts in data["splits"].items()},
            shared={str(n): {str(w): int(k) for w, k in c.items()} for n, c in data.get("shared", {}).items()},
            labels={str(n): {str(c): int(k) for c, k in counts.items()} for n, counts in data["labels"].items()},
            quartiles={str(n): (str(q["of"]), [float(e) for e in q["edges"]]) for n, q in quartiles.items()},
            skipped=[(str(s["id"]), str(s["reason"])) for s in data["skipped"]],
            unknown_characters={str(c): int(n) for c, n in data["unknown_characters"].items()},
        )

"""A corpus in tables for the terminal: its splits, its labels, its letters, and what was skipped."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from disentangle_lightning.corpus.checks import describe
from disentangle_lightning.corpus.manifest import TRAINING_SPLITS, Corpus, Skipped
from disentangle_lightning.corpus.tokenizer import ENGLISH_ALPHABET, CTCTokenizer

_MOST_CLASSES = 12
"""Of a label, that are listed one by one."""
_MOST_VARIANTS = 8
"""Of a reason that differs from clip to clip, that are listed one by one."""
_NEEDED = ("train", "dev", "test")


def print_overview(corpus: Corpus, tokenizer: CTCTokenizer, console: Console) -> None:
    """Print everything that is worth knowing before training; texts are never read as rich's markup."""
    facts = describe(corpus, tokenizer)
    console.print(_splits(facts["splits"]))
    if facts["shared"] and any(split in facts["splits"] for split in TRAINING_SPLITS):
        console.print(Text(_shared(facts["shared"])), "")
    if facts["labels"]:
        console.print(_labels(facts["labels"]))
    console.print(Text(_letters(facts, tokenizer)), "")
    if corpus.skipped:
        console.print(_skipped(corpus.skipped))
    if missing := [split for split in _NEEDED if split not in facts["splits"]]:
        console.print(
            Text(
                f"No utterance has the split {' or '.join(missing)}, which training needs: with options such as "
                "--splits.stratify emotion, what is missing is made.",
                style="yellow",
            )
        )


def group_reasons(skipped: Sequence[Skipped]) -> list[tuple[str, int, str]]:
    """Reasons with how many utterances have them and the first one's id, the most frequent first.

    The utterance's own file, absolute paths and fractions are left out of a reason, so that it is one for all
    utterances. What it quotes is left out only where that makes many reasons one.

    >>> group_reasons([Skipped("a", "audio file /x/a.wav does not exist"), Skipped("b", "sung, not spoken")])
    [('audio file … does not exist', 1, 'a'), ('sung, not spoken', 1, 'b')]
    """
    variants: dict[str, Counter[str]] = defaultdict(Counter)
    first: dict[str, str] = {}
    for skip in skipped:
        shown = re.sub(rf"\S*{re.escape(skip.id)}\.\w+|(?<!\S)/\S+|\d+\.\d+", "…", skip.reason)
        shown = re.sub("…(?: …)+", "…", shown)
        pattern = re.sub(r"'[^']*'|\"[^\"]*\"|\[[^]]*\]", "…", shown)
        variants[pattern][shown] += 1
        first.setdefault(shown, skip.id)
    groups = []
    for pattern, counts in variants.items():
        if len(counts) > _MOST_VARIANTS:
            groups.append((pattern, counts.total(), first[next(iter(counts))]))
        else:
            groups += [(shown, count, first[shown]) for shown, count in counts.items()]
    return sorted(groups, key=lambda group: -group[1])


def _table(title: str, *columns: str, numbers: Sequence[str] = ()) -> Table:
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for column in columns:
        table.add_column(Text(column), justify="right" if column in numbers else "left", overflow="fold")
    return table


def _splits(splits: Mapping[str, Any]) -> Table:
    numbers = ("utterances", "hours", "speakers")
    table = _table("Splits", "split", *numbers, numbers=numbers)
    for split, figures in splits.items():
        hours = f"{figures['hours']:.2f}"
        table.add_row(Text(split), str(figures["utterances"]), hours, str(figures["speakers"] or "unknown"))
    return table


def _shared(shared: Mapping[str, Mapping[str, int]]) -> str:
    parts = (
        f"{counts['trained']} of the {counts['test']} {name} are in train as well, {counts['probed']} in probe"
        for name, counts in shared.items()
    )
    return f"Of test, {'; '.join(parts)}."


def _labels(labels: Mapping[str, Mapping[str, int]]) -> Table:
    table = _table("Labels", "label", "utterances", "classes", numbers=("utterances",))
    for name, counts in labels.items():
        if len(counts) > _MOST_CLASSES:
            classes = f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} utterances"
        else:
            classes = ", ".join(f"{label}: {count}" for label, count in counts.items())
        table.add_row(Text(name), str(sum(counts.values())), Text(classes))
    return table


def _letters(facts: Mapping[str, Any], tokenizer: CTCTokenizer) -> str:
    trained = any(split in facts["splits"] for split in TRAINING_SPLITS)
    source = f"of splits {' and '.join(TRAINING_SPLITS)}" if trained else "of all, since no split trains yet"
    kind = "English" if tokenizer.alphabet == ENGLISH_ALPHABET else "those that occur"
    text = f"Alphabet, by the transcriptions {source} ({kind}): {tokenizer.alphabet}\n"
    if unknown := facts["unknown_characters"]:
        return text + "Outside it, and dropped: " + ", ".join(f"{c} ({count})" for c, count in unknown.items())
    return text + "Every character is in it, punctuation apart."


def _skipped(skipped: Sequence[Skipped]) -> Table:
    table = _table(f"Skipped: {len(skipped)}", "reason", "utterances", "such as", numbers=("utterances",))
    for reason, count, example in group_reasons(skipped):
        table.add_row(Text(reason), str(count), Text(example))
    return table

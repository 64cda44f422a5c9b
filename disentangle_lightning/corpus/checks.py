"""What a corpus holds, and what of it cannot be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from disentangle_lightning.corpus.audio import utterance_seconds
from disentangle_lightning.corpus.manifest import SPLITS, TRAINING_SPLITS, Corpus, Skipped, Utterance
from disentangle_lightning.corpus.tokenizer import CTCTokenizer, fold_text
from disentangle_lightning.errors import UserError


def drop_unspeakable(utterances: list[Utterance], tokenizer: CTCTokenizer) -> tuple[list[Utterance], list[Skipped]]:
    """Leave out the transcriptions of which no letter is in the alphabet ("42", "???").

    An utterance without transcription is kept: it can still be a Stage 2 or probe utterance.
    """
    kept: list[Utterance] = []
    skipped: list[Skipped] = []
    for u in utterances:
        if u.transcription is not None and not tokenizer.normalize(u.transcription):
            skipped.append(Skipped(u.id, f"transcription {u.transcription!r} has no letter of the alphabet"))
        else:
            kept.append(u)
    return kept, skipped


def describe(corpus: Corpus, tokenizer: CTCTokenizer) -> dict[str, Any]:
    """A corpus in numbers, ready for `corpus.json`.

    Returns:
        splits: {split: {utterances, hours, speakers}}, in the order of `SPLITS`, without empty ones; utterances that
            have no split are `unassigned`;
        shared: {speakers: {test, trained, probed}, sentences: {test, trained, probed}}: how many of those in test
            there are, and how many of them are in train and in probe, too; without those that nobody wrote down;
        labels: {name: {class: utterances}}, `speaker` among them;
        skipped: [{id, reason}];
        unknown_characters: {character: count} of what transcriptions lose outside the alphabet, the most
        frequent first.

    A file that cannot be opened counts as an utterance of no length: encoding will skip it, and say why.
    """
    splits: dict[str, Any] = {}
    for split in (*SPLITS, None):
        if members := [u for u in corpus.utterances if u.split == split]:
            splits[split or "unassigned"] = {
                "utterances": len(members),
                "hours": sum(map(_seconds, members)) / 3600,
                "speakers": len({u.speaker for u in members if u.speaker is not None}),
            }
    unknown: Counter[str] = Counter()
    labels: dict[str, Counter[str]] = {}
    for u in corpus.utterances:
        unknown.update(tokenizer.unknown(u.transcription or ""))
        for name in ("speaker", *u.labels):
            if (value := u.label(name)) is not None:
                labels.setdefault(name, Counter())[value] += 1
    return {
        "splits": splits,
        "shared": _shared(corpus.utterances),
        "labels": {name: dict(sorted(labels[name].items())) for name in sorted(labels)},
        "skipped": [{"id": s.id, "reason": s.reason} for s in corpus.skipped],
        "unknown_characters": dict(sorted(unknown.items(), key=lambda item: (-item[1], item[0]))),
    }


def _shared(utterances: Sequence[Utterance]) -> dict[str, dict[str, int]]:
    keys: dict[str, Callable[[Utterance], str | None]] = {
        "speakers": lambda u: u.speaker,
        "sentences": lambda u: fold_text(u.transcription or "") or None,
    }
    shared = {}
    for name, key in keys.items():
        in_split = {
            split: {v for u in utterances if u.split == split and (v := key(u)) is not None} for split in SPLITS
        }
        if here := in_split["test"]:
            trained, probed = (len(here & in_split[split]) for split in TRAINING_SPLITS)
            shared[name] = {"test": len(here), "trained": trained, "probed": probed}
    return shared


def _seconds(utterance: Utterance) -> float:
    try:
        return utterance_seconds(utterance)
    except UserError:
        return 0.0

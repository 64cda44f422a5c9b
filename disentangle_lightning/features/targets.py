"""What is predicted from the frames: label classes, checked before any training starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from disentangle_lightning.corpus.manifest import SPLITS, TRAINING_SPLITS, Utterance
from disentangle_lightning.errors import UserError

CTC_TARGET = "ctc"
"""Transcription, among the targets that are labels."""


def class_lists(utterances: Sequence[Utterance], labels: Sequence[str], train_split: str) -> dict[str, list[str]]:
    """The classes of each label over the training splits, sorted: {label: classes}.

    Raises:
        UserError: nobody has a label, the training split holds fewer than two of its classes, or `dev` or
            `test` hold a class that training never sees.
    """
    return {name: _classes(utterances, name, train_split) for name in labels}


def hidden_classes(utterances: Sequence[Utterance], labels: Sequence[str], train_split: str) -> dict[str, list[str]]:
    """The classes of labels that a training only hides: those of its own split, sorted.

    Others that `dev` or `test` have are of no use to it, and count as missing: speakers who are kept apart, say.

    Raises:
        UserError: the training split holds fewer than two classes of a label.
    """
    own = [u for u in utterances if u.split == train_split]
    return class_lists(own, labels, train_split)


def check_learnable(
    utterances: Sequence[Utterance],
    tasks: Sequence[str],
    labels: Sequence[str],
    transcribed: bool,
    hidden: Sequence[str] = (),
) -> None:
    """Refuse a corpus in which a stage or probe would find nothing to learn or to be tested on.

    Args:
        utterances: with their splits.
        tasks: the labels that a Stage 2 is to learn.
        labels: those that probes are to learn.
        transcribed: whether Stage 1 is to learn, too.
        hidden: what it is to hide.

    Raises:
        UserError: naming the split, and what it lacks.
    """
    for split in SPLITS:
        if not any(u.split == split for u in utterances):
            raise UserError(f"split '{split}' is empty; raise its fraction in field 'splits.fractions'")
    class_lists(utterances, tasks, "train")
    class_lists(utterances, labels, "probe")
    try:
        hidden_classes(utterances, hidden, "train")
    except UserError as error:
        raise UserError(
            f"Stage 1 cannot hide what it is told to: {error}; name other labels as "
            "--stage1.set.model.init_args.hide, or none with --stage1.config experiments/stage1/unlabelled.yaml"
        ) from None
    for split in SPLITS:
        members = [u for u in utterances if u.split == split]
        if transcribed and not any(u.transcription for u in members):
            raise UserError(f"no utterance of split '{split}' has a transcription, which Stage 1 cannot do without")
        for label in labels:
            if not any(u.label(label) for u in members):
                raise UserError(f"no utterance of split '{split}' has label '{label}'; stratify by it, or leave it out")


def _classes(utterances: Sequence[Utterance], name: str, train_split: str) -> list[str]:
    by_split: dict[str | None, set[str]] = {}
    for utterance in utterances:
        if (value := utterance.label(name)) is not None:
            by_split.setdefault(utterance.split, set()).add(value)
    if not by_split:
        known = Counter(label for u in utterances for label in u.labels)
        if any(u.speaker is not None for u in utterances):
            known["speaker"] += 1
        raise UserError(f"no utterance has label '{name}'; the manifest has {', '.join(sorted(known)) or 'no labels'}")
    trained = by_split.get(train_split, set())
    if len(trained) < 2:
        found = f"only class '{next(iter(trained))}'" if trained else "no class"
        raise UserError(f"label '{name}' has {found} in split '{train_split}'; a classifier needs two classes or more")
    known_classes = set().union(*(by_split.get(split, set()) for split in TRAINING_SPLITS))
    for split in ("dev", "test"):
        unseen = sorted(by_split.get(split, set()) - known_classes)
        if unseen:
            raise UserError(
                f"label '{name}' has classes in split '{split}' that no training split has: "
                f"{', '.join(unseen)}; move some of their utterances to training, or take them out"
            )
    return sorted(known_classes)

"""Who trains, who probes, who selects, who is tested: splits that share no speaker or sentence."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from disentangle_lightning.corpus.manifest import SPLITS, Skipped, Utterance
from disentangle_lightning.corpus.tokenizer import fold_text
from disentangle_lightning.errors import UserError

Disjoint = Literal["speaker", "sentence", "speaker+sentence"]
ProbeFrom = Literal["train", "test"]

_HELD_OUT = ("test", "dev")

_Key = Callable[[Utterance], str]
_Array = NDArray[np.float64]


def assign_splits(
    utterances: Sequence[Utterance],
    fractions: Mapping[str, float],
    disjoint: Disjoint | None = None,
    stratify: str | None = None,
    seed: int = 0,
    probe_from: ProbeFrom = "train",
) -> tuple[list[Utterance], list[Skipped]]:
    """Give every utterance a split: train, probe, dev or test.

    Three sides are kept apart: the training side (train and probe), dev, and test. With `disjoint="speaker"`
    no speaker is on two sides, with `"sentence"` no sentence (transcriptions that differ only in case,
    punctuation and spacing are one sentence). With both, an utterance whose speaker and sentence belong to
    different sides is left out: of a corpus in which everyone says everything, test keeps the square of its
    fraction. Probe is then taken from the training side, utterance by utterance, so that it shares its
    speakers and sentences. With `probe_from="test"` it shares those of test instead: probe and test then are of
    speakers, or sentences, that no stage has heard.

    Splits that the corpus came with are kept: only those it lacks are made, each the given fraction of what
    the corpus calls train or gives no split. If the corpus' own splits share a speaker or sentence that
    `disjoint` keeps apart, the test utterances stay, and those of dev and of the training side are left out.

    With `stratify`, each class of that label keeps its share in every split as closely as counts allow. The
    result depends on the set of utterances and the seed, not on the order they come in.

    Args:
        utterances: with or without splits.
        fractions: of train, dev, test and optionally probe; they sum to 1.
        disjoint: what the sides must not share.
        stratify: the name of a label, or `speaker`.
        seed: decides who goes where.
        probe_from: the side that probe belongs to.

    Returns:
        The utterances, in their order, each with a split; and those left out, with the reason.

    Raises:
        UserError: the fractions are not fractions; an utterance lacks the speaker or transcription that
            `disjoint` needs; no utterance has the label `stratify`, or it is kept disjoint; a split would be
            empty, or without one of its classes; probe would have to be taken out of a test split that is given.
    """
    _check_fractions(fractions)
    own_side = {"test": "test", "dev": "dev", "probe": probe_from}  # of a split that is kept
    keys = _keys(disjoint)
    for u in utterances:
        for name, key in keys.items():
            if not key(u):
                raise UserError(f"disjoint '{disjoint}' needs the {name} of every utterance; '{u.id}' has none")
    classes = sorted({c for u in utterances if (c := _class(u, stratify))})
    if stratify in keys:
        raise UserError(f"{stratify} cannot be stratified by and kept disjoint: each is on one side only")
    if stratify and not classes:
        known = ", ".join(sorted({"speaker", *(label for u in utterances for label in u.labels)}))
        raise UserError(f"no utterance has the label '{stratify}' to stratify by; the corpus has {known}")

    own = {u.split for u in utterances}
    pool = [u for u in utterances if u.split in ("train", None)]
    made = {side: fractions[side] for side in _HELD_OUT if side not in own and fractions[side] > 0}
    probe = fractions.get("probe", 0) if "probe" not in own else 0.0
    if probe and probe_from == "test":
        if "test" not in made:
            raise UserError(
                "probe_from 'test' takes split 'probe' out of a test split that is made; this corpus comes with its "
                "own, so give it a split 'probe' as well"
            )
        made["test"] += probe
    elif probe_from not in get_args(ProbeFrom):
        raise UserError(f"probe_from is '{probe_from}'; expected {' or '.join(get_args(ProbeFrom))}")
    shares = {"train": 1 - sum(made.values())} | made

    sides: dict[str, set[str]] = {u.id: {own_side[u.split]} if u.split in own_side else set() for u in utterances}
    for key in keys.values():
        side_of = _claimed(key, utterances, own_side)
        free = _free_groups(key, pool, sides, side_of)
        side_of |= _apportion(free, shares, stratify, seed)
        for u in utterances:
            sides[u.id].add(side_of[key(u)])

    splits: dict[str, str] = {}
    skipped: list[Skipped] = []
    for u in utterances:
        may_go_to = {own_side[u.split]} if u.split in own_side else set(shares)
        if len(sides[u.id]) == 1 and sides[u.id] <= may_go_to:
            splits[u.id] = u.split if u.split in own_side else min(sides[u.id])
        else:
            shared = " and ".join(keys)
            skipped.append(Skipped(u.id, f"shares its {shared} with {' and '.join(sorted(sides[u.id]))}"))

    if probe:
        share = probe / shares[probe_from]
        beside = {u.id: [u] for u in pool if splits.get(u.id) == probe_from}
        splits |= _apportion(beside, {probe_from: 1 - share, "probe": share}, stratify, seed)

    assigned = [replace(u, split=splits[u.id]) for u in utterances if u.id in splits]
    needed = [s for s in SPLITS if s != "probe" or s in own or fractions.get(s, 0) > 0]
    _check_complete(assigned, needed, stratify, classes)
    return assigned, skipped


def _claimed(key: _Key, utterances: Sequence[Utterance], own_side: Mapping[str, str]) -> dict[str, str]:
    """The groups that the corpus' own splits have already put on a side; test before dev before probe."""
    claimed: dict[str, str] = {}
    for split, side in own_side.items():
        for u in utterances:
            if u.split == split:
                claimed.setdefault(key(u), side)
    return claimed


def _free_groups(
    key: _Key, pool: Sequence[Utterance], sides: Mapping[str, set[str]], side_of: dict[str, str]
) -> dict[str, list[Utterance]]:
    """The groups of the pool whose side is open. A sentence that only speakers of one side say is not: it
    stays with them, so that nothing has to be left out; its side is added to `side_of`."""
    groups: dict[str, list[Utterance]] = defaultdict(list)
    for u in pool:
        if key(u) not in side_of:
            groups[key(u)].append(u)
    for group, members in list(groups.items()):
        decided = set().union(*(sides[u.id] for u in members))
        if len(decided) == 1:
            side_of[group] = decided.pop()
            del groups[group]
    return groups


def _apportion(
    groups: Mapping[str, Sequence[Utterance]], shares: Mapping[str, float], stratify: str | None, seed: int
) -> dict[str, str]:
    """Put whole groups on sides so that each class, and the whole, keeps to the shares.

    The largest group first, each goes where it adds least to sum (n - target)^2 / target over classes and
    sides; for groups of one utterance that is Webster's method of apportionment. Then a side that a class did
    not reach gets the group that fits best, from a side that can spare it.
    """
    names = sorted(groups, key=lambda g: (-len(groups[g]), hashlib.sha256(f"{seed}/{g}".encode()).digest()))
    classes = sorted({c for members in groups.values() for u in members if (c := _class(u, stratify))})
    column = {c: i for i, c in enumerate(classes, start=1)}
    counts = np.zeros((len(names), 1 + len(classes)))  # column 0 counts utterances of any class
    for row, name in zip(counts, names, strict=True):
        for u in groups[name]:
            row[0] += 1
            if c := _class(u, stratify):
                row[column[c]] += 1
    target = np.outer(list(shares.values()), counts.sum(axis=0))
    filled = np.zeros_like(target)
    side = np.zeros(len(names), np.int64)
    for i, row in enumerate(counts):
        side[i] = (row * (row + 2 * filled) / target).sum(axis=1).argmin()
        filled[side[i]] += row
    _fill_gaps(counts, target, filled, side)
    return {name: list(shares)[s] for name, s in zip(names, side, strict=True)}


def _fill_gaps(counts: _Array, target: _Array, filled: _Array, side: NDArray[np.int64]) -> None:
    """Move one group to each side that lacks a class, from a side that keeps all its classes without it."""

    def error(of: _Array, beside: _Array) -> _Array:
        distance: _Array = ((of - beside) ** 2 / beside).sum(axis=-1)
        return distance

    for s, c in np.argwhere(filled == 0):
        if filled[s, c] > 0:
            continue
        left = filled[side] - counts
        spare = (counts[:, c] > 0) & ((left > 0) | (counts == 0)).all(axis=1)
        if spare.any():
            change = error(left, target[side]) - error(filled, target)[side]
            change += error(filled[s] + counts, target[s]) - error(filled[s], target[s])
            moved = np.where(spare, change, np.inf).argmin()
            filled[side[moved]] -= counts[moved]
            filled[s] += counts[moved]
            side[moved] = s


def _check_complete(
    utterances: Sequence[Utterance], needed: Sequence[str], stratify: str | None, classes: Sequence[str]
) -> None:
    for split in needed:
        members = [u for u in utterances if u.split == split]
        if not members:
            raise UserError(f"split '{split}' is empty; raise its fraction, add data, or keep fewer things disjoint")
        if lacking := set(classes) - {_class(u, stratify) for u in members}:
            raise UserError(
                f"split '{split}' has no utterance with {stratify} '{min(lacking)}'; raise its fraction, add "
                f"data of that class, leave the class out, or do not stratify by {stratify}"
            )


def _check_fractions(fractions: Mapping[str, float]) -> None:
    if unknown := set(fractions) - set(SPLITS):
        raise UserError(f"fractions name a split '{min(unknown)}'; expected {', '.join(SPLITS)}")
    if missing := {"train", "dev", "test"} - set(fractions):
        raise UserError(f"fractions lack '{min(missing)}'; train, dev and test are always needed")
    if not all(0 <= f <= 1 for f in fractions.values()) or not math.isclose(sum(fractions.values()), 1, abs_tol=1e-6):
        raise UserError(f"fractions {dict(fractions)} must lie between 0 and 1 and sum to 1")
    if fractions["train"] == 0:
        raise UserError("the fraction of 'train' is 0; stages need something to train on")


def _keys(disjoint: Disjoint | None) -> dict[str, _Key]:
    """What decides an utterance's side, by name; without `disjoint`, every utterance is its own group."""
    if disjoint is None:
        return {"id": lambda u: u.id}
    known: dict[str, _Key] = {
        "speaker": lambda u: u.speaker or "",
        "sentence": lambda u: fold_text(u.transcription or ""),
    }
    if unknown := set(disjoint.split("+")) - set(known):
        raise UserError(f"disjoint is '{min(unknown)}'; expected speaker, sentence, speaker+sentence or nothing")
    return {name: key for name, key in known.items() if name in disjoint.split("+")}


def _class(utterance: Utterance, stratify: str | None) -> str | None:
    return utterance.label(stratify) if stratify else None

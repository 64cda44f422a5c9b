"""Minimum description length: how many bits a label costs to someone who has the representation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from disentangle_lightning.analysis.information.readers import Classes, Floats, tempered_reader
from disentangle_lightning.tasks.metrics import bootstrap_ratio

TRUST = (0.0, 0.0625, 0.125, 0.25, 0.5, 1.0)
ORDERS = 4
"""The mean is taken over so many orders of the utterances."""


@dataclass(frozen=True)
class Compression:
    """Uniform code length over online code length, with a 95 % interval over utterances, and that of shuffled labels.

    Attributes:
        control: of labels shuffled over utterances: 1 where classes are equally frequent, above where some are rare.
    """

    value: float
    low: float
    high: float
    control: float

    def figures(self, name: str) -> dict[str, float]:
        """`NAME.compression` with its interval, and `.compression.control`."""
        return {
            f"{name}.compression": self.value,
            f"{name}.compression.ci_low": self.low,
            f"{name}.compression.ci_high": self.high,
            f"{name}.compression.control": self.control,
        }


def compression(first: tuple[Floats, Classes], then: tuple[Floats, Classes], count: int, seed: int = 0) -> Compression:
    """MDL probing by online coding (arXiv 2003.12298): U log2 K over the bits that it takes to send U labels.

    Labels are sent in blocks, each coded by the probabilities of a reader fitted on all blocks before it; the first at
    log2 K bits each. So a reader that needs many utterances pays for it, and neither its size nor its training is free.
    Blocks double until all of `first` is sent; `then` is the last. 1 means that the representation did not help, and
    more is better without bound.

    The reader is linear discriminant analysis of the mean over the utterance, see `tempered_reader`; each block is
    coded by the mixture of the readers of every `TRUST`, which costs less than 3 bits over the best of them, for how
    far to trust a fit depends on how much it was fitted on. What only another reader finds is missed: compression is a
    lower bound. The interval is over utterances, the readers being what they are.

    Args:
        first: means [U, d] and classes [U] of the probes' split, all known.
        then: those of the test split.
        count: K, 2 or more.
        seed: of the orders and of the shuffled labels.
    """
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(first[1])) for _ in range(ORDERS)]
    nats = np.mean([_nats(first, then, count, order) for order in orders], axis=0)
    labels = np.concatenate([first[1], then[1]])
    shuffled = []
    for order in orders:
        rng.shuffle(labels)
        parts = np.split(labels, [len(first[1])])
        shuffled.append(_nats((first[0], parts[0]), (then[0], parts[1]), count, order))
    uniform = np.full(len(nats), np.log(count))
    low, high = bootstrap_ratio(uniform, nats)
    control = uniform.sum() / np.mean(shuffled, axis=0).sum()
    return Compression(float(uniform.sum() / nats.sum()), low, high, float(control))


def _nats(first: tuple[Floats, Classes], then: tuple[Floats, Classes], count: int, order: Classes) -> Floats:
    """The code length of each label, [U], those of `first` in their own order, though sent in another."""
    (means, classes), (last_means, last_classes) = first, then
    ends = [len(order)]
    while ends[0] // 2 >= count:
        ends.insert(0, ends[0] // 2)
    nats = np.full(len(classes) + len(last_classes), np.log(count))
    for known, end in itertools.pairwise(ends):
        before, block = order[:known], order[known:end]
        read = tempered_reader(means[before], classes[before], count, TRUST)
        nats[block] = _mixture(-read(means[block])[:, np.arange(len(block)), classes[block]])
    read = tempered_reader(means, classes, count, TRUST)
    nats[len(classes) :] = _mixture(-read(last_means)[:, np.arange(len(last_classes)), last_classes])
    return nats


def _mixture(nats: Floats) -> Floats:
    """The code length of each label of a block under the mixture of several codes, [codes, n] -> [n].

    The mixture sends the block in -log(mean over codes of exp(-sum of nats)); each label costs what it adds.
    """
    so_far = np.cumsum(nats, axis=1)
    shortest = so_far.min(0)
    total = shortest - np.log(np.exp(shortest - so_far).mean(0))
    each: Floats = np.diff(total, prepend=0.0)
    return each

"""The contract of the batch plan, for one to eight processes."""

from __future__ import annotations

import math
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from disentangle_lightning.features import loader
from disentangle_lightning.features.loader import PlanSampler
from disentangle_lightning.features.plan import plan_batches

corpora = st.lists(st.integers(1, 120), min_size=1, max_size=60)
plans = st.fixed_dictionaries(
    {
        "lengths": corpora,
        "max_frames": st.integers(1, 400),
        "seed": st.integers(0, 5),
        "epoch": st.integers(0, 5),
        "world_size": st.integers(1, 8),
        "max_utterances": st.none() | st.integers(1, 10),
        "shuffle": st.booleans(),
    }
)


def fill(lengths, max_frames, max_utterances):
    """The number of batches that filling in turn gives, written another way."""
    count, frames, utterances = 0, math.inf, 0
    for length in lengths:
        frames, utterances = frames + length, utterances + 1
        if frames > max_frames or utterances > (max_utterances or math.inf):
            count, frames, utterances = count + 1, length, 1
    return count


@settings(deadline=None, max_examples=300)
@given(plans)
def test_the_plan_keeps_its_contract(arguments):
    plan = plan_batches(**arguments)
    lengths, world_size = arguments["lengths"], arguments["world_size"]
    batches = [batch for step in zip(*plan, strict=True) for batch in step]  # strict: equal counts on every rank
    assert len(plan) == world_size

    order = sorted(lengths) if arguments["shuffle"] else lengths
    filled = fill(order, arguments["max_frames"], arguments["max_utterances"])
    wanted = math.ceil(1.02 * filled) if arguments["shuffle"] else filled
    count = world_size * math.ceil(min(len(lengths), wanted) / world_size)
    assert len(batches) == count

    distinct = min(count, len(lengths))
    assert count - distinct < world_size
    assert sorted(i for batch in batches[:distinct] for i in batch) == list(range(len(lengths)))
    assert batches[distinct:] == [batches[i % distinct] for i in range(count - distinct)]

    for batch in batches:
        assert batch
        assert len(batch) <= (arguments["max_utterances"] or math.inf)
        assert len(batch) == 1 or sum(lengths[i] for i in batch) <= arguments["max_frames"]
    if not arguments["shuffle"]:
        assert [i for batch in batches[:distinct] for i in batch] == list(range(len(lengths)))


@settings(deadline=None, max_examples=50)
@given(plans)
def test_every_process_and_every_call_computes_the_same_plan(arguments):
    again = {**arguments, "lengths": np.array(arguments["lengths"])}
    first = plan_batches(**arguments)
    np.random.seed(arguments["seed"] + 1)  # the state of the global generator plays no part
    assert plan_batches(**again) == first
    assert again["lengths"].tolist() == arguments["lengths"], "the lengths are left as they are"


@settings(deadline=None, max_examples=100)
@given(plans, st.integers(0, 20))
def test_what_was_delivered_and_what_a_resumed_run_delivers_are_the_whole_epoch(arguments, delivered):
    def sampler(skip: int) -> PlanSampler:
        lengths = np.array(arguments["lengths"])
        made = PlanSampler(
            lengths,
            arguments["max_frames"],
            arguments["max_utterances"],
            arguments["shuffle"],
            arguments["seed"],
        )
        made.set_epoch(arguments["epoch"])
        made.skip = skip
        return made

    for rank, share in enumerate(plan_batches(**arguments)):
        with patch.object(loader, "_world", lambda rank=rank: (rank, arguments["world_size"])):
            assert list(sampler(0)) == share
            assert share[:delivered] + list(sampler(delivered)) == share
            assert len(sampler(delivered)) == len(share)


@settings(deadline=None, max_examples=100)
@given(plans)
def test_a_batch_is_a_repeat_just_where_its_number_is_past_the_utterances(arguments):
    plan = plan_batches(**arguments)
    seen: set[int] = set()
    for step in range(len(plan[0])):
        for rank in range(arguments["world_size"]):
            number = step * arguments["world_size"] + rank
            batch = set(plan[rank][step])
            assert batch <= seen if number >= len(arguments["lengths"]) else not batch & seen
            seen |= batch


@settings(deadline=None, max_examples=200)
@given(plans)
def test_processes_wait_for_each_other_no_longer_in_an_epoch_than_one_batch_takes(arguments):
    lengths = np.array(arguments["lengths"])
    plan = plan_batches(**(arguments | {"shuffle": True}))
    frames = np.array([[lengths[batch].sum() for batch in rank] for rank in plan])
    if frames.size <= len(lengths):
        assert np.ptp(frames, axis=0).sum() <= np.ptp(frames)


def test_steps_of_several_processes_come_in_another_order_in_every_epoch():
    lengths = np.random.default_rng(0).integers(50, 750, 500)
    for epoch in range(3):
        frames = [sum(lengths[batch]) for batch in plan_batches(lengths, 5000, 0, epoch, 2)[0]]
        assert abs(np.corrcoef(frames, np.arange(len(frames)))[0, 1]) < 0.5


def test_epochs_and_seeds_differ_in_order_and_in_company():
    lengths = np.random.default_rng(0).integers(50, 750, 500)

    def companies(seed: int, epoch: int) -> set[frozenset[int]]:
        return {frozenset(batch) for batch in plan_batches(lengths, 5000, seed, epoch, 1)[0]}

    reference = companies(0, 0)
    assert len(reference & companies(0, 1)) < 0.1 * len(reference)
    assert len(reference & companies(1, 0)) < 0.1 * len(reference)


def test_padding_the_logits_of_a_shuffled_batch_costs_little():
    lengths = np.random.default_rng(0).integers(50, 750, 2000)
    batches = plan_batches(lengths, 10_000, 0, 0, 1)[0]
    padded = sum(len(batch) * lengths[batch].max() for batch in batches)
    assert padded < 1.4 * lengths.sum()


def test_batches_are_nearly_full():
    lengths = np.random.default_rng(0).integers(50, 750, 2000)
    assert len(plan_batches(lengths, 10_000, 0, 0, 1)[0]) < 1.1 * lengths.sum() / 10_000


@pytest.mark.parametrize("utterances", [1, 3, 5])
def test_fewer_utterances_than_processes_are_repeated(utterances):
    plan = plan_batches([10] * utterances, 1000, 0, 0, 8)
    assert [len(rank) for rank in plan] == [1] * 8
    assert {i for rank in plan for batch in rank for i in batch} == set(range(utterances))


def test_the_docstring_example():
    assert plan_batches([30, 10, 20, 40], 60, 0, 0, 2, shuffle=False) == [[[0, 1, 2]], [[3]]]


def test_lengths_that_only_fit_together_when_sorted_still_give_the_same_count_in_every_epoch():
    lengths = [50] * 100 + [51] * 100  # two of 50 fill a batch; 50 and 51 do not fit into one
    plans = [plan_batches(lengths, 100, 0, epoch, 1)[0] for epoch in range(5)]
    assert {len(plan) for plan in plans} == {math.ceil(1.02 * 150)}
    assert len({str(plan) for plan in plans}) == 5

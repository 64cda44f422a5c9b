"""Reading: what is asked for is all that is read, and a file that gives less is named."""

from __future__ import annotations

import json
import os

import pytest
import torch
from test_quantization import make_store

from disentangle_lightning.errors import UserError

LENGTHS = (7, 1, 30, 12, 5)
LAYERS, DIM = 6, 16


@pytest.fixture(params=["float32", "float16", "bfloat16", "int8"])
def store(request, tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n, LAYERS, DIM, generator=generator) for n in LENGTHS]
    if request.param != "int8":
        features = [part.to(getattr(torch, request.param)) for part in features]
    return make_store(tmp_path / "store", features, request.param, shard_bytes=4000)


@pytest.fixture
def asked(monkeypatch) -> list[int]:
    """How many bytes each read of the system was asked for."""
    sizes: list[int] = []
    real = os.preadv

    def counting(file, parts, offset):
        sizes.append(sum(len(part) for part in parts))
        return real(file, parts, offset)

    monkeypatch.setattr(os, "preadv", counting)
    return sizes


@pytest.mark.parametrize("layers", [[1], [6], [2, 3, 4], [1, 3, 6], [5, 4], [1, 2, 5, 6], [6, 1, 2], [3, 3]])
def test_a_subset_of_layers_is_that_part_of_the_whole_and_only_its_bytes_are_read(store, asked, layers):
    for index, frames in enumerate(LENGTHS):
        whole = store.read(index)
        assert whole.transpose(0, 1).is_contiguous()
        store.read(index, [1])  # the shard's own header is read once
        asked.clear()
        subset = store.read(index, layers)
        assert sum(asked) == frames * store.frame_bytes(layers)
        assert torch.equal(subset, whole[:, [layer - 1 for layer in layers]])


def test_consecutive_layers_are_one_request(store, asked):
    store.read(2)
    asked.clear()
    store.read(2, [2, 3, 4, 5])
    assert len(asked) == (2 if store.dtype == torch.int8 else 1)


def test_a_buffer_is_filled_end_to_end_in_the_order_asked_for(store):
    order = [4, 0, 2]
    raw = store.buffer(sum(LENGTHS[i] for i in order), 2)
    store.fill(raw, order, store.places([6, 3]))
    ends = torch.tensor([LENGTHS[i] for i in order]).cumsum(0).tolist()
    for index, end in zip(order, ends, strict=True):
        alone = store.buffer(LENGTHS[index], 2)
        store.fill(alone, [index], store.places([6, 3]))
        assert torch.equal(raw.values[:, end - LENGTHS[index] : end], alone.values)
        if raw.scales is not None:
            assert torch.equal(raw.scales[:, end - LENGTHS[index] : end], alone.scales)


def test_a_system_that_gives_a_few_bytes_at_a_time_is_asked_again(store, monkeypatch):
    expected = [store.read(index, [1, 2, 5]) for index in range(len(store))]
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda file, parts, offset: real(file, [parts[0][:37]], offset))
    for index, features in enumerate(expected):
        assert torch.equal(store.read(index, [1, 2, 5]), features)


def test_a_file_that_lost_its_end_while_it_was_in_use_is_named(store):
    shard = store.path / "shards/00000.safetensors"
    whole = store.read(0)
    last = len(json.loads(shard.with_suffix(".json").read_text())["utterances"]) - 1
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(UserError, match=r"00000.safetensors is damaged \(it ends too early\); delete it and run"):
        store.read(last)
    assert torch.equal(store.read(0), whole)
    shard.unlink()
    with pytest.raises(UserError, match=r"00000.safetensors is missing; run encode again"):
        store.read(0)


def test_what_the_system_refuses_is_a_sentence(store, monkeypatch):
    def broken(file, parts, offset):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", broken)
    with pytest.raises(UserError, match=r"00000.safetensors cannot be read: Input/output error"):
        store.read(0)


def test_no_file_stays_open_not_even_after_a_failure(store):
    before = sorted(os.listdir("/proc/self/fd"))
    for index in range(len(store)):
        store.read(index)
    os.truncate(store.path / "shards/00000.safetensors", 200)
    with pytest.raises(UserError):
        store.read(0)
    assert sorted(os.listdir("/proc/self/fd")) == before

"""Frames are the same wherever they are kept, and they are kept where they fit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from test_quantization import make_store

from disentangle_lightning.errors import UserError
from disentangle_lightning.features import residency, sources
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.residency import choose_residency
from disentangle_lightning.features.sources import ResidentFrames, StoredFrames

LENGTHS = (7, 1, 30, 12, 5, 9)
LAYERS, DIM = 4, 8
WANTED = [4, 2]


@pytest.fixture(params=["float32", "float16", "bfloat16", "int8"])
def store(request, tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = [torch.randn(n, LAYERS, DIM, generator=generator) for n in LENGTHS]
    if request.param != "int8":
        features = [part.to(getattr(torch, request.param)) for part in features]
    return make_store(tmp_path / "store", features, request.param, shard_bytes=1000)


@pytest.fixture(params=["disk", "memory", "device"])
def source(request, store, monkeypatch):
    monkeypatch.setattr(sources, "_CHUNK_BYTES", 400)
    if request.param == "disk":
        return StoredFrames(store, WANTED)
    if request.param == "device":  # as on a GPU
        monkeypatch.setattr(ResidentFrames, "_copy", ResidentFrames._select)
    return ResidentFrames(store, WANTED, [5, 0, 2, 3, 1])


def gather(source, indices):
    return source.gather(indices, source.empty(sum(LENGTHS[i] for i in indices)))


@pytest.mark.parametrize("indices", [[2], [0, 1, 2, 3], [3, 5, 1, 0], [1, 2, 1]])
def test_a_batch_is_its_utterances_end_to_end_and_layer_major(store, source, indices):
    features = gather(source, indices)
    assert torch.equal(features, torch.cat([store.read(index, WANTED) for index in indices]))
    assert features.dtype == (torch.float16 if store.dtype == torch.int8 else store.dtype)
    assert features.transpose(0, 1).is_contiguous()


def test_a_batch_is_its_own_memory(source):
    first = gather(source, [0, 2])
    expected = first.clone()
    gather(source, [3, 5]).zero_()
    gather(source, [0, 2]).zero_()
    assert torch.equal(first, expected)
    assert torch.equal(gather(source, [0, 2]), expected)


def test_threads_do_not_meet(source):
    batches = [[2, 0], [1], [5, 3, 0], [3], [0, 1, 2, 3, 5]]
    expected = [gather(source, batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            made = list(pool.map(lambda batch: gather(source, batch), batches))
            assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))


def test_eight_bits_stay_eight_bits_in_memory(tmp_path):
    store = make_store(tmp_path / "store", [torch.randn(n, LAYERS, DIM) for n in LENGTHS])
    kept = ResidentFrames(store, WANTED, [0, 1, 2])
    tensors = [value for value in vars(kept).values() if isinstance(value, torch.Tensor)]
    assert sum(tensor.nbytes for tensor in tensors) == sum(LENGTHS[:3]) * store.frame_bytes(WANTED)


CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
GB = 10**9


@pytest.mark.parametrize(
    ("wanted", "device", "processes", "size", "place"),
    [
        ("auto", GPU, 1, 4.9, "device"),
        ("auto", GPU, 1, 5.1, "host"),
        ("auto", CPU, 1, 4.9, "host"),
        ("auto", CPU, 1, 9.9, "host"),
        ("auto", CPU, 1, 10.1, "disk"),
        ("auto", GPU, 1, 10.1, "disk"),
        ("auto", CPU, 2, 5.1, "disk"),
        ("auto", GPU, 2, 4.9, "device"),
        ("disk", GPU, 1, 0.1, "disk"),
        ("host", GPU, 1, 0.1, "host"),
        ("host", CPU, 1, 99, "host"),
        ("device", GPU, 1, 99, "device"),
    ],
)
def test_features_go_where_they_fit(monkeypatch, wanted, device, processes, size, place):
    """With 40 GB of memory free and 10 GB on the GPU: a quarter of the one, half of the other."""
    monkeypatch.setattr(residency, "free_memory", lambda: 40 * GB)
    monkeypatch.setattr(residency, "free_device_memory", lambda device: 10 * GB if device == GPU else 0)
    chosen, words = choose_residency(wanted, int(size * GB), device, processes)
    assert chosen == place
    assert f"features ({size:.1f} GB)" in words
    assert "\n" not in words


def test_a_cpu_has_no_memory_of_its_own():
    assert residency.free_device_memory(CPU) == 0


def test_places_that_are_not_there_are_refused(corpus):
    with pytest.raises(UserError, match="residency is 'gpu'; expected one of auto, disk, host, device"):
        FrameFeatureDataModule(*corpus, [], residency="gpu")
    data = FrameFeatureDataModule(*corpus, [], residency="device")
    with pytest.raises(UserError, match="residency is 'device', but this run has no accelerator; use host, disk or"):
        data.train_dataloader()

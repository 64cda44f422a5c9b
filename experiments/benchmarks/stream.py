"""Packed, shuffled batches from the feature store, against copying the same bytes and against four other loaders.

    stream.share_of_memcpy            time to copy the bytes of an epoch into memory used before, over ours: read from
                                      cached files by the thread that asks (`residency: disk`, `num_workers: 0`)
    stream.share_of_memcpy.workers1   likewise, with one thread reading ahead; `.workers2` with two
    stream.share_of_memcpy.host       likewise, from memory (`residency: host`)
    stream.speedup.NAME               another loader's time over ours, both from files and each with its best of 0, 1
                                      and 2 workers (tried beforehand). How each is used: stream_rivals.py
    stream.speedup.fastest, .median   of these four
    stream.speedup.arrow              rows cut out of a mapped Arrow file by hand: what a copy of mapped memory costs,
                                      once its pages have been touched

Utterances last 1 to 6 s at 50 frames/s, with 12 layers of 768 dimensions in float16; a batch has at most 4000 frames.
Every side is warm: its files are in the system's cache, and freed memory is kept (`keep_freed_memory`), by which all
gain. Whether a side delivers every utterance once and unchanged is checked before it is timed.
"""

from __future__ import annotations

import gc
import importlib.metadata
import statistics
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch
from harness import record, time_in_turn
from stream_rivals import FRAME_RATE, MAX_FRAMES, RIVALS, Epoch, Packed, Utterances, arrow, quieten

from disentangle_lightning.corpus.manifest import Utterance, audio_hash, read_manifest, write_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.writer import StoreWriter
from disentangle_lightning.memory import keep_freed_memory

UTTERANCES, LAYERS, DIM = 130, 12, 768
WORKERS = (0, 1, 2)
ROUNDS = 5


def make_utterances(count: int) -> Utterances:
    rng = np.random.default_rng(0)
    shapes = [(int(frames), LAYERS, DIM) for frames in rng.integers(FRAME_RATE, 6 * FRAME_RATE, count)]
    # Finite float16 values of any size; what they are is no matter here.
    return {f"u{i:04d}": rng.integers(0, 0x7C00, s, dtype=np.uint16).view(np.float16) for i, s in enumerate(shapes)}


def write_store(utterances: Utterances, folder: Path) -> None:
    """The store, all of it for training, but for a frame each of the other splits."""
    one_frame = np.zeros((1, LAYERS, DIM), np.float16)
    everything = utterances | {"dev": one_frame, "test": one_frame}
    manifest = folder / "manifest.jsonl"
    listed = [Utterance(id, folder / f"{id}.wav", split=id if id in ("dev", "test") else "train") for id in everything]
    write_manifest(manifest, listed)
    header = {"format": FORMAT, "encoder": {}, "precision": "fp32", "dtype": "float16", "dim": DIM}
    header |= {"layers": list(range(1, LAYERS + 1)), "frame_rate": FRAME_RATE, "versions": {}}
    header["manifest_sha256"] = audio_hash(read_manifest(manifest), folder)
    with StoreWriter(folder / "store", header, 64_000_000) as writer:
        for id, features in everything.items():
            writer.add([(id, torch.from_numpy(features))])
        writer.finish([])


def ours(folder: Path, residency: str, workers: int, max_frames: int = MAX_FRAMES) -> Epoch:
    manifest, store = str(folder / "manifest.jsonl"), str(folder / "store")
    data = FrameFeatureDataModule(
        manifest, store, [], max_frames=max_frames, num_workers=workers, residency=residency, verify=False
    )
    loader = data.train_dataloader()

    def epoch(number: int) -> Iterable[Packed]:
        loader.sampler.set_epoch(number)
        return ((batch.features, batch.ids, batch.segments.lengths) for batch in loader)

    return epoch


def check(epoch: Epoch, utterances: Utterances) -> None:
    """Every utterance once and unchanged."""
    seen = []
    for features, ids, lengths in epoch(0):
        for id, part in zip(ids, features.split(lengths.tolist()), strict=True):
            assert torch.equal(part, torch.from_numpy(utterances[id])), id
        seen += ids
    assert sorted(seen) == sorted(utterances)


def run(epoch: Epoch) -> Callable[[], None]:
    """One epoch after the other."""
    number = 0

    def call() -> None:
        nonlocal number
        number += 1
        for _ in epoch(number):
            pass

    return call


def memcpy(size: int, batch: int) -> Callable[[], None]:
    """Copy so many bytes, a batch at a time, into memory used before."""
    source, target = torch.ones(size, dtype=torch.uint8), torch.ones(batch, dtype=torch.uint8)

    def call() -> None:
        for part in source.split(batch):
            target[: len(part)].copy_(part)

    return call


def best_workers(make: Callable[[int], Epoch]) -> int:
    """The number of workers with which an epoch takes least time."""
    seconds = {}
    for workers in WORKERS:
        epoch = make(workers)
        seconds[workers] = time_in_turn({"epoch": run(epoch)}, rounds=2)["epoch"]
        del epoch
        gc.collect()
    return min(seconds, key=lambda workers: seconds[workers])


def main() -> None:
    keep_freed_memory()
    quieten()
    torch.set_num_threads(1)
    utterances = make_utterances(UTTERANCES)
    size = sum(features.nbytes for features in utterances.values())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_store(utterances, folder)
        epochs = {f"workers{workers}": ours(folder, "disk", workers) for workers in WORKERS}
        epochs["host"] = ours(folder, "host", 0)
        chosen = {"ours": best_workers(lambda workers: ours(folder, "disk", workers))}
        for rival, make in RIVALS.items():
            place = folder / rival
            chosen[rival] = best_workers(lambda workers, make=make, place=place: make(utterances, place, workers))
            epochs[rival] = make(utterances, place, chosen[rival])
        epochs["arrow"] = arrow(utterances, folder / "arrow", 0)
        for epoch in epochs.values():
            check(epoch, utterances)
        copy = memcpy(size, MAX_FRAMES * LAYERS * DIM * 2)
        seconds = time_in_turn({"memcpy": copy} | {name: run(epoch) for name, epoch in epochs.items()}, ROUNDS)

    def rate(side: str) -> str:
        return f"{size / seconds[side] / 1e9:.2f} GB/s"

    target = "at least 0.7"
    for side, suffix in (("workers0", ""), ("workers1", ".workers1"), ("workers2", ".workers2"), ("host", ".host")):
        share = seconds["memcpy"] / seconds[side]
        record(f"stream.share_of_memcpy{suffix}", share, target, ours=rate(side), memcpy=rate("memcpy"))
    own = f"workers{chosen['ours']}"
    speedups = {rival: seconds[rival] / seconds[own] for rival in RIVALS}
    for rival, speedup in speedups.items():
        how = f"{rate(rival)}, version {importlib.metadata.version(rival)}, {chosen[rival]} workers"
        record(f"stream.speedup.{rival}", speedup, "above 1", ours=f"{rate(own)}, {chosen['ours']} workers", theirs=how)
    record("stream.speedup.fastest", min(speedups.values()), "at least 1.5")
    by_hand = seconds["arrow"] / seconds[own]
    record("stream.speedup.arrow", by_hand, "no target: a bare copy", ours=rate(own), theirs=rate("arrow"))
    record("stream.speedup.median", statistics.median(speedups.values()), "at least 3")


if __name__ == "__main__":
    main()

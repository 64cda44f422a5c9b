"""The same utterances in the formats of four other loaders, each read in its best reasonable way.

Each side is made of [frames, layers, dim] float16 arrays with an id, and gives, every epoch in another order, packed
batches of about `MAX_FRAMES` frames: (features [N, layers, dim], ids, lengths). All of them read from local files that
the operating system has cached, and copy each value at least once, into the batch.

- LitData: `optimize`d chunks of 64 MB, `StreamingDataset(shuffle=True)`, tensors in its own serialisation, which it
  maps. It batches by utterances only: batches have the mean number that fills `MAX_FRAMES`.
- WebDataset: tar shards of 64 MB with the raw bytes of each utterance, wrapped without a copy. A tar is read from front
  to back, so shuffling is that of shards and of a buffer of utterances. Batches by frames, formed in the pipeline.
- lhotse Shar: `numpy` tar shards beside a manifest, `CutSet.from_shar` with a buffer to shuffle in, for the same
  reason; `DynamicCutSampler` batches by seconds, which is by frames.
- Hugging Face datasets: an Arrow file with a column of float16 lists, mapped. Random access; a batch sampler of ours
  forms batches by frames, and `with_format("torch")` makes them, as its documentation says. `arrow` is the same file
  without the loader's part in it: each row is cut out of the mapped file by hand and wrapped without a copy, so that
  what is timed is one copy of mapped memory.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

MAX_FRAMES = 4000
BUFFER = 50
"""Utterances in a shuffle buffer: about two batches' worth."""

FRAME_RATE = 50
SHARD_BYTES = 64_000_000

Packed = tuple[Tensor, list[str], Tensor]
Utterances = dict[str, np.ndarray]
Epoch = Callable[[int], Iterable[Packed]]
"""An epoch of batches, given its number."""


def pack(items: list[tuple[str, Tensor]]) -> Packed:
    return torch.cat([part for _, part in items]), [id for id, _ in items], torch.tensor([len(x) for _, x in items])


def fill(items: Iterable[tuple[str, Tensor]]) -> Iterator[Packed]:
    """Utterances in the order in which they come, to batches of `MAX_FRAMES` at most."""
    batch: list[tuple[str, Tensor]] = []
    frames = 0
    for item in items:
        if batch and frames + len(item[1]) > MAX_FRAMES:
            yield pack(batch)
            batch, frames = [], 0
        batch.append(item)
        frames += len(item[1])
    if batch:
        yield pack(batch)


def groups(utterances: Utterances) -> list[list[str]]:
    """Ids, in groups of about `SHARD_BYTES`."""
    shards: list[list[str]] = [[]]
    filled = 0
    for id, features in utterances.items():
        if filled > SHARD_BYTES:
            shards.append([])
            filled = 0
        shards[-1].append(id)
        filled += features.nbytes
    return shards


def _wrap(data: bytes, shape: tuple[int, ...]) -> Tensor:
    return torch.frombuffer(data, dtype=torch.float16).view(shape)


def _pack_dictionaries(items: list[dict[str, Any]]) -> Packed:
    return pack([(item["id"], item["features"]) for item in items])


def litdata(utterances: Utterances, folder: Path, workers: int) -> Epoch:
    import litdata as ld

    if not folder.exists():
        order = [{"id": id, "features": torch.from_numpy(x)} for id, x in utterances.items()]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            ld.optimize(
                order.__getitem__,
                inputs=list(range(len(order))),
                output_dir=str(folder),
                chunk_bytes=SHARD_BYTES,
                num_workers=1,
                start_method="fork",
                verbose=False,
            )
    size = max(1, round(MAX_FRAMES * len(utterances) / sum(len(x) for x in utterances.values())))
    dataset = ld.StreamingDataset(str(folder), shuffle=True, seed=0)
    loader = ld.StreamingDataLoader(
        dataset, batch_size=size, collate_fn=_pack_dictionaries, num_workers=workers, persistent_workers=workers > 0
    )
    return lambda number: loader  # it counts its epochs itself


def webdataset(utterances: Utterances, folder: Path, workers: int) -> Epoch:
    import webdataset as wds

    if not folder.exists():
        folder.mkdir()
        for number, ids in enumerate(groups(utterances)):
            with wds.TarWriter(str(folder / f"{number:05d}.tar")) as sink:
                for id in ids:
                    sink.write({"__key__": id, "bin": utterances[id].tobytes()})
    shape = (-1, *next(iter(utterances.values())).shape[1:])

    def item(sample: dict[str, Any]) -> tuple[str, Tensor]:
        return sample["__key__"], _wrap(sample["bin"], shape)

    urls = sorted(str(file) for file in folder.glob("*.tar"))
    shards = wds.WebDataset(urls, shardshuffle=len(urls), seed=0, empty_check=False)
    batches = shards.shuffle(BUFFER, initial=BUFFER).map(item).compose(fill)
    loader = wds.WebLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)
    return lambda number: loader  # it shuffles anew at every pass


class _Cuts(torch.utils.data.Dataset[Packed]):
    def __getitem__(self, cuts: Any) -> Packed:
        return pack([(cut.id, torch.from_numpy(cut.load_hidden())) for cut in cuts])


def lhotse(utterances: Utterances, folder: Path, workers: int) -> Epoch:
    from lhotse import CutSet, MonoCut
    from lhotse.dataset import DynamicCutSampler, IterableDatasetWrapper
    from lhotse.shar import SharWriter

    if not folder.exists():
        folder.mkdir()
        with SharWriter(folder, {"hidden": "numpy"}, shard_size=len(groups(utterances)[0])) as writer:
            for id, features in utterances.items():
                cut = MonoCut(id=id, start=0, duration=len(features) / FRAME_RATE, channel=0)
                writer.write(cut.attach_tensor("hidden", features, frame_shift=1 / FRAME_RATE, temporal_dim=0))

    cuts = CutSet.from_shar(in_dir=folder, shuffle_shards=True, split_for_dataloading=workers > 0)
    seconds = MAX_FRAMES / FRAME_RATE
    sampler = DynamicCutSampler(cuts, max_duration=seconds, shuffle=True, shuffle_buffer_size=BUFFER)
    batches = IterableDatasetWrapper(_Cuts(), sampler)
    loader = DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def epoch(number: int) -> Iterable[Packed]:
        batches.set_epoch(number)
        return loader

    return epoch


class _FrameBatches(torch.utils.data.Sampler[list[int]]):
    """Random batches of at most `MAX_FRAMES`."""

    def __init__(self, lengths: list[int]) -> None:
        self._lengths = lengths
        self.epoch = 0

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        frames = 0
        for index in np.random.default_rng(self.epoch).permutation(len(self._lengths)).tolist():
            if batch and frames + self._lengths[index] > MAX_FRAMES:
                yield batch
                batch, frames = [], 0
            batch.append(index)
            frames += self._lengths[index]
        yield batch


class _TorchRows(torch.utils.data.Dataset[Packed]):
    """A batch of rows asked for at once, as tensors: what its documentation says to train from."""

    def __init__(self, dataset: Any, shape: tuple[int, ...]) -> None:
        self._dataset = dataset.with_format("torch")
        self._shape = shape

    def __getitem__(self, indices: list[int]) -> Packed:
        rows = self._dataset[indices]
        parts = [torch.as_tensor(part).view(self._shape) for part in rows["features"]]
        return pack(list(zip(rows["id"], parts, strict=True)))


class _ArrowSlices(torch.utils.data.Dataset[Packed]):
    """Each row as a slice of the mapped file, wrapped without a copy."""

    def __init__(self, dataset: Any, shape: tuple[int, ...]) -> None:
        self._dataset = dataset.with_format("arrow")
        self._shape = shape

    def __getitem__(self, indices: list[int]) -> Packed:
        items = []
        for index in indices:
            row = self._dataset[index]
            values = torch.from_numpy(row["features"].chunk(0)[0].values.to_numpy())
            items.append((row["id"][0].as_py(), values.view(self._shape)))
        return pack(items)


def _arrow_file(utterances: Utterances, file: Path, rows: type, workers: int) -> Epoch:
    import datasets as hf

    if not file.exists():
        columns = hf.Features({"id": hf.Value("string"), "features": hf.LargeList(hf.Value("float16"))})
        with hf.arrow_writer.ArrowWriter(features=columns, path=str(file), writer_batch_size=20) as writer:
            for id, features in utterances.items():
                writer.write({"id": id, "features": features.reshape(-1)})
            writer.finalize()
    sampler = _FrameBatches([len(x) for x in utterances.values()])
    table = rows(hf.Dataset.from_file(str(file)), (-1, *next(iter(utterances.values())).shape[1:]))
    loader = DataLoader(table, sampler=sampler, batch_size=None, num_workers=workers, persistent_workers=workers > 0)

    def epoch(number: int) -> Iterable[Packed]:
        sampler.epoch = number
        return loader

    return epoch


def datasets(utterances: Utterances, folder: Path, workers: int) -> Epoch:
    return _arrow_file(utterances, folder, _TorchRows, workers)


def arrow(utterances: Utterances, folder: Path, workers: int) -> Epoch:
    return _arrow_file(utterances, folder.with_name("datasets"), _ArrowSlices, workers)


RIVALS: dict[str, Callable[[Utterances, Path, int], Epoch]] = {
    "litdata": litdata,
    "webdataset": webdataset,
    "lhotse": lhotse,
    "datasets": datasets,
}


def quieten() -> None:
    """No progress bars, advice and upgrade notices among the figures."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    # A forked worker that ends cannot clean up after the loaders that it inherited, and says so on every page.
    sys.unraisablehook = lambda unraisable: None

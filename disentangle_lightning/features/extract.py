"""Run a frozen encoder over a corpus, once: manifest in, feature store out."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from disentangle_lightning import __version__
from disentangle_lightning.corpus.audio import SAMPLE_RATE, load_utterance, utterance_seconds
from disentangle_lightning.corpus.manifest import Skipped, Utterance, audio_hash, read_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import COMPLETE, DTYPES, FORMAT, WRITTEN_DTYPES, check_header, read_skipped
from disentangle_lightning.features.parts import Part, check_no_parts
from disentangle_lightning.features.progress import encoding_progress
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.features.writer import StoreWriter

_CLIPS_AHEAD = 64
"""How many clips are decoded ahead of the encoder."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class SpeechEncoder(Protocol):
    """What encoding needs of an encoder; `FrozenSpeechEncoder` is one."""

    @property
    def num_layers(self) -> int: ...
    @property
    def dim(self) -> int: ...
    @property
    def frame_rate(self) -> float: ...
    @property
    def minimum_samples(self) -> int: ...
    @property
    def maximum_samples(self) -> int | None: ...
    @property
    def precision(self) -> str: ...
    @property
    def identity(self) -> dict[str, Any]: ...

    def __call__(self, waveforms: Tensor) -> Tensor:
        """[B, samples] float32 at 16 kHz, of equal length -> [B, frames, layers, dim] float32; from several threads."""


@dataclass(frozen=True)
class EncodeSummary:
    """What a store, or a part of one, holds.

    Attributes:
        path: its folder.
        encoded: how many utterances.
        skipped: those that were left out.
        speed: hours of audio that this run encoded an hour; None where nothing was left to encode.
    """

    path: Path
    encoded: int
    skipped: list[Skipped]
    speed: float | None = field(default=None, compare=False)


def encode(
    manifest_path: str | Path,
    encoder: SpeechEncoder,
    store_path: str | Path,
    dtype: str = "float16",
    layers: Sequence[int] | None = None,
    part: Part | None = None,
    batch_seconds: float = 10.0,
    shard_megabytes: float = 64.0,
    streams: int | None = None,
    workers: int = 4,
    progress: bool = True,
) -> EncodeSummary:
    """Encode every utterance of a manifest, or a part of them, into a feature store.

    Longest utterances first, in batches of exactly equal length: padding would change the features of many
    encoders. The order is fixed, so the same input gives the same store. A run that was interrupted goes on
    where it stopped; one over a complete store does nothing, nor does one that encodes a part of it.

    Several batches are encoded at once, each on one thread. On 2 free cores that is as fast as one batch on both; where
    other programs run beside, 6 to 14 times faster, since the threads of one operation wait for each other. The
    features do not depend on how many.

    Args:
        manifest_path: the corpus; labels and splits may change later, the audio may not.
        encoder: the frozen encoder.
        store_path: the folder of the store.
        dtype: float32, float16, bfloat16 or int8 (a scale for every frame of every layer).
        layers: the numbers of the layers to keep, from 1 to the encoder's `num_layers`; None keeps all.
        part: the part to encode, which `merge.merge` puts together with the others; None encodes all.
        batch_seconds: how much audio goes through the encoder at once, in seconds; a longer clip goes alone. On a CPU
            10 s are as fast as more, a second alone is a third slower.
        shard_megabytes: the size of a file of the store.
        streams: how many batches are encoded at once; None takes as many as PyTorch would use threads.
        workers: threads that decode audio ahead.
        progress: show a progress bar, if standard error is a terminal.

    Returns:
        What the store (or the part) holds, and which utterances were skipped: their audio is missing, undecodable,
        silent, too short or too long, or the encoder made NaN of it.

    Raises:
        UserError: dtype or layers are out of range, the store was made otherwise or in parts, another process writes
            it, a value does not fit the dtype, the disk is full, or every utterance was skipped.
    """
    utterances, header = corpus_and_header(manifest_path, encoder, dtype, layers)
    store_path = Path(store_path)
    if part is None:
        check_no_parts(store_path)
    elif (store_path / COMPLETE).is_file():
        return _merged_already(store_path, header)
    else:
        part.check_place(store_path)
        store_path = part.folder(store_path)
        header["part"] = str(part)
    with StoreWriter(store_path, header, round(shard_megabytes * 1e6)) as writer:
        if writer.complete:
            return EncodeSummary(store_path, len(writer.finished), read_skipped(store_path))
        begun = time.perf_counter()
        timed = longest_first(utterances, workers)
        if part is not None:
            timed = part.share(timed)
        seconds = {utterance.id: length for utterance, length in timed}
        wanted = [utterance for utterance, _ in timed if utterance.id not in writer.finished]
        skipped: list[Skipped] = []
        new: list[str] = []
        with encoding_progress(seconds, writer.finished, progress) as advance, _one_thread_each() as threads:
            clips = _ahead(partial(_decode, encoder=encoder), wanted, workers, _CLIPS_AHEAD)
            batches = _equal_length_batches(_divert(clips, skipped), round(batch_seconds * SAMPLE_RATE))
            work = partial(_encode_batch, encoder=encoder, layers=header["layers"], dtype=dtype)
            streams = streams or threads
            with closing(clips), closing(_ahead(work, batches, streams, 2 * streams)) as encoded:
                for outcome in encoded:
                    features = list(_divert(outcome, skipped))
                    writer.add(features)
                    ids = [id for id, _ in features]
                    advance(ids)
                    new += ids
        if timed and not writer.finished and not new:
            raise UserError(
                f"none of the {len(timed)} utterances of {manifest_path} could be encoded; "
                f"the first, '{skipped[0].id}': {skipped[0].reason}"
            )
        writer.finish(skipped)
    speed = sum(seconds[id] for id in new) / (time.perf_counter() - begun)
    return EncodeSummary(store_path, len(writer.finished) + len(new), skipped, speed or None)


def _merged_already(store_path: Path, header: dict[str, Any]) -> EncodeSummary:
    store = FeatureStore.open(store_path, verify=False)
    check_header(store_path, store.header, header)
    return EncodeSummary(store_path, len(store), store.skipped)


def corpus_and_header(
    manifest_path: str | Path, encoder: SpeechEncoder, dtype: str, layers: Sequence[int] | None
) -> tuple[list[Utterance], dict[str, Any]]:
    """The utterances of a manifest, and the header of the store that they are encoded into.

    Raises:
        UserError: dtype or layers are out of range, or the manifest cannot be read.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is '{dtype}'; features are stored as {', '.join(DTYPES)}")
    layers = checked_layers(layers, encoder.num_layers)
    utterances = read_manifest(manifest_path)
    return utterances, store_header(encoder, layers, dtype, audio_hash(utterances, Path(manifest_path).parent))


def store_header(encoder: SpeechEncoder, layers: list[int], dtype: str, manifest_sha256: str) -> dict[str, Any]:
    """What features are: of which audio, by which encoder, in which layers and dtype."""
    return {
        "format": FORMAT,
        "encoder": encoder.identity,
        "precision": encoder.precision,
        "layers": layers,
        "dtype": dtype,
        "dim": encoder.dim,
        "frame_rate": encoder.frame_rate,
        "manifest_sha256": manifest_sha256,
        "versions": {name: version(name) for name in ("torch", "transformers")}
        | {"disentangle_lightning": __version__},
    }


def checked_layers(layers: Sequence[int] | None, num_layers: int) -> list[int]:
    """The numbers of the layers to keep, ascending; None means all.

    Raises:
        UserError: the encoder has no such layer, or none is asked for.
    """
    if layers is None:
        return list(range(1, num_layers + 1))
    if not layers or not all(1 <= layer <= num_layers for layer in layers):
        raise UserError(f"layers is {list(layers)}; this encoder has layers 1 to {num_layers}")
    return sorted(set(layers))


def longest_first(utterances: Sequence[Utterance], workers: int = 4) -> list[tuple[Utterance, float]]:
    """Each with its seconds. Equal lengths side by side; the longest first, so that a lack of memory shows at once."""
    with ThreadPoolExecutor(workers) as pool:
        seconds = list(pool.map(_announced_seconds, utterances))
    return sorted(zip(utterances, seconds, strict=True), key=lambda pair: -pair[1])


def _announced_seconds(utterance: Utterance) -> float:
    try:
        return utterance_seconds(utterance)
    except UserError:
        return 0.0  # decoding will say it again, and then it counts


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """One thread for every operation of PyTorch; yields how many it had before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def _ahead(work: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int) -> Generator[Result]:
    """What `work` makes of each item, in order; threads do so ahead, for `most` items at the same time."""
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) == most:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(utterance: Utterance, encoder: SpeechEncoder) -> tuple[Utterance, Tensor] | Skipped:
    try:
        waveform = load_utterance(utterance)
    except UserError as error:
        return Skipped(utterance.id, str(error))
    if reason := misfit(len(waveform), encoder):
        return Skipped(utterance.id, reason)
    return utterance, waveform


def misfit(samples: int, encoder: SpeechEncoder) -> str | None:
    """Why an encoder cannot take a clip of so many samples at 16 kHz, or None where it can."""
    least, most = encoder.minimum_samples, encoder.maximum_samples
    if samples < least:
        return f"{samples} samples at 16 kHz; the encoder needs at least {least}"
    if most is not None and samples > most:
        return f"{samples} samples at 16 kHz; the encoder takes {most} at most"
    return None


def _divert(outcomes: Iterable[Result | Skipped], skipped: list[Skipped]) -> Iterator[Result]:
    """What was not skipped; the others join the list."""
    for outcome in outcomes:
        if isinstance(outcome, Skipped):
            skipped.append(outcome)
        else:
            yield outcome


def _equal_length_batches(
    clips: Iterable[tuple[Utterance, Tensor]], max_samples: int
) -> Iterator[list[tuple[Utterance, Tensor]]]:
    """Runs of clips of exactly the same number of samples, at most `max_samples` together."""
    batch: list[tuple[Utterance, Tensor]] = []
    for utterance, waveform in clips:
        samples = len(waveform)
        if batch and (samples != len(batch[0][1]) or (len(batch) + 1) * samples > max_samples):
            yield batch
            batch = []
        batch.append((utterance, waveform))
    if batch:
        yield batch


def _encode_batch(
    batch: list[tuple[Utterance, Tensor]], encoder: SpeechEncoder, layers: list[int], dtype: str
) -> list[tuple[str, Tensor] | Skipped]:
    """(id, features [frames, layers, dim] as the writer takes them) of each clip, or why there are none."""
    with torch.inference_mode():
        exact = encoder(torch.stack([waveform for _, waveform in batch])).transpose(1, 2)
        if len(layers) < exact.shape[1]:
            exact = exact[:, [layer - 1 for layer in layers]]
        # NaN and infinity win over any number, so that one pass sees them and what does not fit.
        largest = exact.flatten(1).abs().amax(dim=1).tolist()
        stored = exact.to(WRITTEN_DTYPES[dtype]).cpu().transpose(1, 2)
    return [_checked(u.id, *made, dtype) for (u, _), made in zip(batch, zip(stored, largest, strict=True), strict=True)]


def _checked(id: str, features: Tensor, largest: float, dtype: str) -> tuple[str, Tensor] | Skipped:
    if not math.isfinite(largest):
        return Skipped(id, "the encoder made NaN or infinite values of it")
    if largest > torch.finfo(features.dtype).max:
        raise UserError(
            f"features of utterance '{id}' do not fit {dtype}: the largest is {largest:.0f}; "
            "delete the store and encode with dtype bfloat16"
        )
    return id, features

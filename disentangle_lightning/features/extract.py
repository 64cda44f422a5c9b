"""Run a frozen encoder over a corpus, once: manifest in, feature store out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from disentangle_lightning import __version__
from disentangle_lightning.corpus.audio import SAMPLE_RATE, load_utterance, utterance_seconds
from disentangle_lightning.corpus.manifest import Skipped, Utterance, audio_hash, read_manifest
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.layout import DTYPES, FORMAT, WRITTEN_DTYPES, read_skipped
from disentangle_lightning.features.writer import StoreWriter

_LOOKAHEAD = 64
"""How many clips are decoded ahead of the encoder."""


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
        """[B, samples] float32 at 16 kHz, of equal length -> [B, frames, layers, dim] float32."""


@dataclass(frozen=True)
class EncodeSummary:
    """What the store holds: how many utterances, and those that were left out."""

    encoded: int
    skipped: list[Skipped]


def encode(
    manifest_path: str | Path,
    encoder: SpeechEncoder,
    store_path: str | Path,
    dtype: str = "float16",
    layers: Sequence[int] | None = None,
    batch_seconds: float = 60.0,
    shard_megabytes: float = 64.0,
    workers: int = 4,
    progress: bool = True,
) -> EncodeSummary:
    """Encode every utterance of a manifest into a feature store.

    Longest utterances first, in batches of exactly equal length: padding would change the features of many
    encoders. The order is fixed, so the same input gives the same store. A run that was interrupted goes on
    where it stopped; one over a complete store does nothing.

    Args:
        manifest_path: the corpus; labels and splits may change later, the audio may not.
        encoder: the frozen encoder.
        store_path: the folder of the store.
        dtype: float32, float16, bfloat16 or int8 (a scale for every frame of every layer).
        layers: the numbers of the layers to keep, from 1 to the encoder's `num_layers`; None keeps all.
        batch_seconds: how much audio goes through the encoder at once, in seconds; a longer clip goes alone.
        shard_megabytes: the size of a file of the store.
        workers: threads that decode audio ahead.
        progress: show a progress bar, if standard error is a terminal.

    Returns:
        What the store holds, and which utterances were skipped: their audio is missing, undecodable, silent,
        too short or too long, or the encoder made NaN of it.

    Raises:
        UserError: dtype or layers are out of range, the store was made otherwise, another process writes it,
            a value does not fit the dtype, the disk is full, or every utterance was skipped.
    """
    if dtype not in DTYPES:
        raise UserError(f"dtype is '{dtype}'; features are stored as {', '.join(DTYPES)}")
    layers = checked_layers(layers, encoder.num_layers)
    manifest_path = Path(manifest_path)
    utterances = read_manifest(manifest_path)
    header = store_header(encoder, layers, dtype, audio_hash(utterances, manifest_path.parent))
    with StoreWriter(store_path, header, round(shard_megabytes * 1e6)) as writer:
        if writer.complete:
            return EncodeSummary(len(writer.finished), read_skipped(writer.path))
        wanted = [u for u in utterances if u.id not in writer.finished]
        skipped: list[Skipped] = []
        encoded = len(writer.finished)
        console = Console(stderr=True)
        with Progress(console=console, disable=not (progress and console.is_terminal)) as bar:
            task = bar.add_task("Encoding", total=len(utterances), completed=encoded)
            clips = _decode_ahead(_longest_first(wanted, workers), encoder, workers)
            usable = _divert(clips, skipped)
            for batch in _equal_length_batches(usable, round(batch_seconds * SAMPLE_RATE)):
                features = _encode_batch(batch, encoder, layers, dtype, skipped)
                writer.add(features)
                encoded += len(features)
                bar.update(task, completed=encoded + len(skipped))
        if not encoded:
            raise UserError(
                f"none of the {len(utterances)} utterances of {manifest_path} could be encoded; "
                f"the first, '{skipped[0].id}': {skipped[0].reason}"
            )
        writer.finish(skipped)
    return EncodeSummary(encoded, skipped)


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


def _longest_first(utterances: Sequence[Utterance], workers: int) -> list[Utterance]:
    """Equal lengths side by side; the longest first, so that a lack of memory shows at once."""
    with ThreadPoolExecutor(workers) as pool:
        seconds = list(pool.map(_announced_seconds, utterances))
    order = sorted(range(len(utterances)), key=lambda i: -seconds[i])
    return [utterances[i] for i in order]


def _announced_seconds(utterance: Utterance) -> float:
    try:
        return utterance_seconds(utterance)
    except UserError:
        return 0.0  # decoding will say it again, and then it counts


def _decode_ahead(
    utterances: Iterable[Utterance], encoder: SpeechEncoder, workers: int
) -> Iterator[tuple[Utterance, Tensor] | Skipped]:
    """Decode in threads, a bounded number of clips ahead, in order."""
    waiting: deque[Future[tuple[Utterance, Tensor] | Skipped]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for utterance in utterances:
            waiting.append(pool.submit(_decode, utterance, encoder))
            if len(waiting) == _LOOKAHEAD:
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


def _divert(
    clips: Iterable[tuple[Utterance, Tensor] | Skipped], skipped: list[Skipped]
) -> Iterator[tuple[Utterance, Tensor]]:
    for clip in clips:
        if isinstance(clip, Skipped):
            skipped.append(clip)
        else:
            yield clip


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
    batch: list[tuple[Utterance, Tensor]],
    encoder: SpeechEncoder,
    layers: list[int],
    dtype: str,
    skipped: list[Skipped],
) -> list[tuple[str, Tensor]]:
    with torch.inference_mode():
        exact = encoder(torch.stack([waveform for _, waveform in batch]))
        exact = exact[:, :, [layer - 1 for layer in layers]]
        stored = exact.to(WRITTEN_DTYPES[dtype])
        exact_is_finite = exact.isfinite().all(dim=(1, 2, 3)).tolist()
        stored_is_finite = stored.isfinite().all(dim=(1, 2, 3)).tolist()
        stored = stored.cpu()
    kept = []
    for i, (utterance, _) in enumerate(batch):
        if not exact_is_finite[i]:
            skipped.append(Skipped(utterance.id, "the encoder made NaN or infinite values of it"))
        elif not stored_is_finite[i]:
            raise UserError(
                f"features of utterance '{utterance.id}' do not fit {dtype}: the largest is "
                f"{exact[i].abs().max():.0f}; delete the store and encode with dtype bfloat16"
            )
        else:
            kept.append((utterance.id, stored[i]))
    return kept

"""Erased hidden states as a feature store, each way of erasing as a layer, for the project's own probes to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from disentangle_lightning.analysis.erasure.leace import Eraser
from disentangle_lightning.analysis.trained_run import TrainedRun
from disentangle_lightning.corpus.manifest import audio_hash, write_manifest
from disentangle_lightning.features.writer import StoreWriter

_SHARD_BYTES = 256 << 20


def write_erased(run: TrainedRun, erasers: Mapping[str, Eraser], folder: Path) -> tuple[Path, Path]:
    """Write FOLDER/manifest.jsonl and FOLDER/features: layer i + 1 holds what the i-th eraser leaves of the average.

    The splits that a probe needs, probe, dev and test, in float16. Goes on where it was interrupted.

    Returns:
        manifest and store.
    """
    splits = [run.latents(run.seeds[0], split) for split in ("probe", "dev", "test")]
    manifest, store = folder / "manifest.jsonl", folder / "features"
    utterances = [run.utterances[id] for latents in splits for id in latents.ids]
    write_manifest(manifest, utterances)
    header = run.header | {
        "layers": list(range(1, len(erasers) + 1)),
        "dtype": "float16",
        "manifest_sha256": audio_hash(utterances, folder),
    }
    with StoreWriter(store, header, _SHARD_BYTES) as writer:
        if not writer.complete:
            for latents in splits:
                frames = latents.frames["hidden"]
                erased = torch.stack([erase(frames) for erase in erasers.values()], dim=1).half()
                parts = torch.split(erased, latents.segments.lengths.tolist())
                wanted = zip(latents.ids, parts, strict=True)
                writer.add([(id, part) for id, part in wanted if id not in writer.finished])
            writer.finish([])
    return manifest, store

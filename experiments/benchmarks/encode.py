"""How fast `encode` is: against a plain loop over the clips, and against the encoder's forward pass alone.

A wav2vec2-base of random weights encodes clips of noise of 1 to 6 s, FLAC and WAV at 44.1 kHz, so that decoding and
resampling cost what they cost on real recordings. All lengths differ, as in most corpora: every batch is one clip.
"""

from __future__ import annotations

import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers
from harness import record, time_in_turn
from torch import Tensor

from disentangle_lightning.corpus.audio import load_audio
from disentangle_lightning.corpus.manifest import Utterance, write_manifest
from disentangle_lightning.features.extract import encode
from disentangle_lightning.features.store import FeatureStore
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

CLIPS, RATE = 20, 44_100


def write_corpus(folder: Path) -> tuple[Path, list[Path], float]:
    """The manifest, the sound files, longest first, and the seconds of all of them."""
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.uniform(1, 6, CLIPS))[::-1]
    files = [folder / f"{i:02d}.{('flac', 'wav')[i % 2]}" for i in range(CLIPS)]
    for file, length in zip(files, seconds, strict=True):
        soundfile.write(file, 0.1 * rng.standard_normal(int(length * RATE)), RATE)
    write_manifest(folder / "manifest.jsonl", [Utterance(file.stem, file) for file in files])
    return folder / "manifest.jsonl", files, float(seconds.sum())


def write_encoder(folder: Path) -> Path:
    torch.manual_seed(0)
    transformers.Wav2Vec2Model(transformers.Wav2Vec2Config()).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def plain_loop(files: list[Path], encoder: Path, out: Path) -> None:
    """What one writes first: clip by clip, decode, resample, forward in fp32 on all threads, save."""
    model = LOADED.setdefault("model", transformers.Wav2Vec2Model.from_pretrained(encoder).eval())
    extractor = transformers.Wav2Vec2FeatureExtractor.from_pretrained(encoder)
    out.mkdir(exist_ok=True)
    for file in files:
        inputs = extractor(load_audio(file).numpy(), sampling_rate=16_000, return_tensors="pt").input_values
        with torch.inference_mode():
            layers = model(inputs, output_hidden_states=True).hidden_states[1:]
        torch.save(torch.cat(layers).half(), out / f"{file.stem}.pt")


LOADED: dict[str, transformers.Wav2Vec2Model] = {}


def end_to_end(manifest: Path, encoder: FrozenSpeechEncoder, store: Path) -> None:
    shutil.rmtree(store, ignore_errors=True)
    encode(manifest, encoder, store, progress=False)


def forward(clips: list[Tensor], encoder: FrozenSpeechEncoder) -> None:
    """The forward pass alone, on decoded clips, in the same batches, as many at once and on as many threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)

    def one(clip: Tensor) -> None:
        with torch.inference_mode():
            encoder(clip[None])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, clips))
    torch.set_num_threads(threads)


def relative_error(store: Path, exact: Path) -> float:
    """Of all features of a store together, against those of another."""
    ours, theirs = FeatureStore.open(store), FeatureStore.open(exact)
    error, size = 0.0, 0.0
    for index, id in enumerate(theirs.ids):
        reference = theirs.read(index).double()
        error += float((ours.read(ours.ids.index(id)).double() - reference).square().sum())
        size += float(reference.square().sum())
    return (error / size) ** 0.5


def main() -> None:
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        manifest, files, seconds = write_corpus(folder)
        checkpoint = write_encoder(folder / "encoder")
        clips = [load_audio(file) for file in files]
        fp32, bf16 = (FrozenSpeechEncoder.from_pretrained(str(checkpoint), precision=p) for p in ("fp32", "bf16"))
        took = time_in_turn(
            {
                "loop": partial(plain_loop, files, checkpoint, folder / "loop"),
                "bf16": partial(end_to_end, manifest, bf16, folder / "bf16"),
                "bf16 forward": partial(forward, clips, bf16),
                "fp32": partial(end_to_end, manifest, fp32, folder / "fp32"),
                "fp32 forward": partial(forward, clips, fp32),
            },
            rounds=4,
        )
        error = relative_error(folder / "bf16", folder / "fp32")
    speed = {side: f"{seconds / duration:.1f} x real time" for side, duration in took.items()}
    record("encode.speedup", took["loop"] / took["bf16"], "at least 2", ours=speed["bf16"], theirs=speed["loop"])
    for side, name in (("bf16", ""), ("fp32", ".fp32")):
        share = took[f"{side} forward"] / took[side]
        record(
            f"encode.share_of_forward{name}", share, "at least 0.85", ours=speed[side], forward=speed[f"{side} forward"]
        )
    record("encode.bf16_error", error, "at most 0.015")


if __name__ == "__main__":
    main()

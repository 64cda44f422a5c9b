"""The whole protocol against a loop in the manner of the authors' scripts, which run the encoder at every step.

The protocol: Stage 1, Stage 2, then probes for six targets (transcription and five labels) on hidden states and both
latents, 50 epochs each, on synthetic speech with an encoder of wav2vec2-base's size and random weights.

Ours encodes every clip once, in bf16 as experiments/encode/wav2vec2_base.yaml does, and trains by `Trainer.fit`:
Stage 1, Stage 2, and three probes of all six targets, in batches as experiments/*/default.yaml have them. Three
epochs or more of each are really run; the first is counted once, the median of the later ones 49 times. An epoch
includes dev, but neither logs nor checkpoints.

Theirs is 20 trainings: each step decodes nothing (clips are in memory), runs the encoder in fp32 on one clip where
the target is text, and on eight padded with zeros where it is a label, and trains what is not frozen by then. It has
no dev.

Both are seconds per training clip on the same machine in the same run, at the same number of threads. Encoding the
clips of the other splits is charged to ours as well.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from harness import record
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.manifest import Utterance, write_manifest
from disentangle_lightning.corpus.synthetic import SyntheticSpeech
from disentangle_lightning.corpus.tokenizer import CTCTokenizer
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.extract import encode
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.nn.ctc import ctc_losses
from disentangle_lightning.nn.latent import LatentEncoder
from disentangle_lightning.nn.layer_mixer import LayerMixer
from disentangle_lightning.nn.pooling import AttentionPooling
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

EPOCHS, LATENT, CLASSES = 50, 128, 4
SENTENCES, SPEAKERS = 24, 4
LABELS = ["speaker", "gender", "style", "halves", "thirds"]
LOOP_SECONDS = 12.0
PAPER_HOURS = 20.0


def make_corpus(folder: Path) -> tuple[Path, list[Utterance]]:
    """Synthetic clips with five labels: 6 of 8 train, one is for dev and one for test."""
    reader = SyntheticSpeech(str(folder / "audio"), sentences=SENTENCES, speakers=SPEAKERS, styles_per_sentence=1)
    utterances = []
    for i, utterance in enumerate(reader.read().utterances):
        split = ("train", "train", "train", "train", "train", "dev", "train", "test")[(i + i // SPEAKERS) % 8]
        labels = {**utterance.labels, "halves": str(i // SPEAKERS % 2), "thirds": str(i // SPEAKERS % 3)}
        utterances.append(replace(utterance, split=split, labels=labels))
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, utterances)
    return manifest, utterances


class Epochs(Callback):
    """The seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begun = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._begun)
        self._begun = now


def fit(module: LightningModule, data: LightningDataModule, clips: int, epochs: int) -> float:
    """Seconds per training clip of `EPOCHS` epochs, from the first and the median of the others."""
    clock = Epochs()
    trainer = Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, use_distributed_sampler=False, gradient_clip_val=1.0, num_sanity_val_steps=0,
        callbacks=[clock],
    )  # fmt: skip
    trainer.fit(module, datamodule=data)
    first, *later = clock.seconds
    return (first + (EPOCHS - 1) * statistics.median(later)) / clips


def ours(folder: Path, manifest: Path, encoder: FrozenSpeechEncoder, clips: int) -> dict[str, float]:
    """Seconds per training clip of each part, of which there are so many."""
    begun = time.perf_counter()
    store = folder / "store"
    encode(manifest, encoder, store, progress=False)
    parts = {"encode once": (time.perf_counter() - begun) / clips}

    def data(labels: list[str], max_utterances: int) -> FrameFeatureDataModule:
        return FrameFeatureDataModule(str(manifest), str(store), labels, max_utterances=max_utterances, verify=False)

    stage1_data = data([], 16)
    stage1 = Stage1VIB(stage1_data.inputs, latent_dim=LATENT)
    parts[f"Stage 1, {EPOCHS} epochs"] = fit(stage1, stage1_data, clips, 4)
    stage1.trainer.save_checkpoint(folder / "stage1.ckpt", weights_only=True)
    stage2_data = data(["speaker"], 8)
    stage2 = Stage2ConditionalVIB(stage2_data.inputs, "speaker", str(folder / "stage1.ckpt"), latent_dim=LATENT)
    parts[f"Stage 2, {EPOCHS} epochs"] = fit(stage2, stage2_data, clips, 4)
    stage2.trainer.save_checkpoint(folder / "stage2.ckpt", weights_only=True)
    for representation, source in (("hidden", None), ("textual", "stage1.ckpt"), ("acoustic", "stage2.ckpt")):
        probe_data = data(LABELS, 8)
        probe = Probe(
            probe_data.inputs, ["ctc", *LABELS], representation, None if source is None else str(folder / source)
        )
        parts[f"6 probes on {representation}, {EPOCHS} epochs"] = fit(probe, probe_data, clips, 6)
    return parts


class Straight(nn.Module):
    """One training in the authors' manner: hidden states of the last forward pass in, loss out.

    Args:
        encoder: where they come from.
        text: whether the target is text, else a label.
        trained: whether a bottleneck is trained; else the head alone, on what is frozen.
        frozen: whether there is a frozen bottleneck; with `trained`, it is the condition of a Stage 2.
    """

    def __init__(self, encoder: FrozenSpeechEncoder, text: bool, trained: bool, frozen: bool, outputs: int) -> None:
        super().__init__()
        self.text = text
        size = (encoder.num_layers, encoder.dim, LATENT)
        self.frozen = LatentEncoder(*size).eval().requires_grad_(False) if frozen else None
        self.trained = LatentEncoder(*size) if trained else None
        self.mixer = None if trained or frozen else LayerMixer(encoder.num_layers)
        width = encoder.dim if self.mixer else LATENT
        self.pools = nn.ModuleList([] if text else [AttentionPooling(width) for _ in range(max(1, trained + frozen))])
        self.head = nn.Linear(width * max(1, len(self.pools)), outputs)

    def loss(self, features: Tensor, segments: Segments, targets: Tensor, target_lengths: Tensor) -> Tensor:
        streams, kl = [], torch.zeros(())
        if self.mixer is not None:
            streams.append(self.mixer(features))
        if self.frozen is not None:
            streams.append(self.frozen(features).mean)
        if self.trained is not None:
            posterior = self.trained(features)
            streams.append(posterior.sample())
            kl = posterior.kl().sum(-1).mean()
        if self.text:
            nats, _ = ctc_losses(self.head(streams[0]), segments, targets, target_lengths)
            return nats.sum() / target_lengths.sum() + 0.1 * kl
        pooled = [pool(stream, segments)[0] for pool, stream in zip(self.pools, streams, strict=True)]
        return F.cross_entropy(self.head(torch.cat(pooled, dim=-1)), targets) + 0.1 * kl


def padded(encoder: FrozenSpeechEncoder, waveforms: list[Tensor]) -> tuple[Tensor, Segments]:
    """Hidden states of a batch that is padded with zeros, packed, each clip with all frames of the longest."""
    batch = nn.utils.rnn.pad_sequence(waveforms, batch_first=True)
    features = encoder(batch)
    frames = features.shape[1]
    lengths = torch.full((len(waveforms),), frames)
    return features.flatten(0, 1), Segments.from_lengths(lengths, frames * len(waveforms), frames)


def theirs(
    encoder: FrozenSpeechEncoder, utterances: list[Utterance], text: bool, trained: bool = False, frozen: bool = False
) -> float:
    """Seconds per clip of one epoch of one training, over steps of at least `LOOP_SECONDS` after two for warming up."""
    tokenizer = CTCTokenizer()
    clips = [(load_utterance(u), tokenizer.encode(tokenizer.normalize(u.transcription or ""))) for u in utterances]
    size = 1 if text else 8
    batches = cycle([clips[i : i + size] for i in range(0, len(clips) - size + 1, size)])
    training = Straight(encoder, text, trained, frozen, len(tokenizer) if text else CLASSES)
    optimizer = torch.optim.AdamW([p for p in training.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.005)

    def step() -> int:
        batch = next(batches)
        features, segments = padded(encoder, [waveform for waveform, _ in batch])
        letters = torch.tensor([id for _, ids in batch for id in ids])
        targets = letters if text else torch.arange(len(batch)) % CLASSES
        loss = training.loss(features, segments, targets, torch.tensor([len(ids) for _, ids in batch]))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(training.parameters(), 1.0)
        optimizer.step()
        return len(batch)

    return seconds_per_item(step, LOOP_SECONDS)


def seconds_per_item(step: Callable[[], int], seconds: float) -> float:
    """How long one of the things takes of which `step` does several and says how many."""
    step(), step()
    begun, items = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        items += step()
    return (time.perf_counter() - begun) / items


def multiplied_out(rows: list[tuple[str, float, int]]) -> float:
    """Print name, seconds per clip and times for each row, and their sum; returns the sum in seconds per clip."""
    for name, seconds, times in rows:
        print(f"  {name:58} {1000 * seconds:9.2f} ms x {times:5} = {seconds * times:8.2f} s per clip")
    total = sum(seconds * times for _, seconds, times in rows)
    print(f"  {'together':58} {'':21} = {total:8.2f} s per clip")
    return total


def main() -> None:
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest, utterances = make_corpus(folder)
        Wav2Vec2Model(Wav2Vec2Config()).save_pretrained(folder / "encoder")
        encoder: Any = FrozenSpeechEncoder.from_pretrained(str(folder / "encoder"))
        fast: Any = FrozenSpeechEncoder.from_pretrained(str(folder / "encoder"), precision="bf16")
        clip_seconds = statistics.mean(load_utterance(u).shape[0] for u in utterances) / 16_000
        print(f"{len(utterances)} clips of {clip_seconds:.1f} s on average, {torch.get_num_threads()} threads")
        print("ours:")
        training = [utterance for utterance in utterances if utterance.split == "train"]
        our_parts = ours(folder, manifest, fast, len(training))
        our_seconds = multiplied_out([(name, seconds, 1) for name, seconds in our_parts.items()])
        print("a loop that encodes at every step:")
        their_seconds = multiplied_out(
            [
                ("Stage 1, batch 1", theirs(encoder, training, True, trained=True), EPOCHS),
                ("Stage 2, batch 8", theirs(encoder, training, False, trained=True, frozen=True), EPOCHS),
                ("text from hidden states, batch 1", theirs(encoder, training, True), EPOCHS),
                ("5 labels from hidden states, batch 8", theirs(encoder, training, False), 5 * EPOCHS),
                ("text from 2 latents, batch 1", theirs(encoder, training, True, frozen=True), 2 * EPOCHS),
                ("5 labels from 2 latents, batch 8", theirs(encoder, training, False, frozen=True), 10 * EPOCHS),
            ]
        )
    clips = PAPER_HOURS * 3600 / clip_seconds
    hours = [seconds * clips / 3600 for seconds in (our_seconds, their_seconds)]
    print(f"{PAPER_HOURS:g} hours of such clips, extrapolated: {hours[0]:.1f} h and {hours[1]:.0f} h")
    record(
        "protocol.speedup",
        their_seconds / our_seconds,
        "at least 50",
        ours=f"{our_seconds:.2f} s per clip",
        theirs=f"{their_seconds:.1f} s per clip",
    )


if __name__ == "__main__":
    main()

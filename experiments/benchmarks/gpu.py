"""What a training reaches of a GPU: frames per second of each module beside what the card can copy and multiply.

    gpu.NAME.frames_per_second   of a real `Trainer.fit` in bfloat16 with the features on the card, once it runs evenly
    gpu.NAME.share_of_copy       the time to copy these features once, over that of a step
    gpu.NAME.share_of_matmul     the floating-point operations of a step (as torch counts them), over what the card does
                                 meanwhile when it multiplies large bfloat16 matrices
    gpu.NAME.waits_per_step      how often a step makes the host wait for the card (CUDA's synchronisation debug mode)
    gpu.protocol_hours           the paper's protocol at the paper's size, multiplied out from the above

NAME is stage1, stage2, probe_hidden, probe_textual or probe_acoustic. `--device cpu` runs the same code in small and
records nothing.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import record
from lightning.pytorch import Callback, Trainer
from torch.utils.flop_counter import FlopCounterMode
from transformers import Wav2Vec2Config, Wav2Vec2Model

from disentangle_lightning.corpus.manifest import Utterance, audio_hash, read_manifest, write_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.writer import StoreWriter
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.tasks.base import TaskModule
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB
from disentangle_lightning.upstream.encoder import FrozenSpeechEncoder

CLASSES = {"emotion": 4, "speaker": 24, "gender": 2, "pitch": 4, "intensity": 4}
LETTERS = "THE QUICK BROWN FOX JUMPS OVER A DOG"
FRAME_RATE = 50
PAPER_FRAMES, PAPER_EPOCHS = 20 * 3600 * FRAME_RATE, 50


@dataclass(frozen=True)
class Size:
    """How much is trained on, and how much copied and multiplied to learn what the card can do."""

    layers: int
    dim: int
    latent: int
    utterances: int
    frames: int
    max_frames: int
    epochs: int
    copied_bytes: int
    matrix: int
    clips: int
    encoder: Mapping[str, Any]


BASE = Size(12, 768, 128, 400, 500, 20_000, 12, 2**30, 8192, 8, {})
TINY = Size(
    2, 16, 4, 32, 48, 400, 4, 2**16, 32, 2,
    {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16,
     "conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
)  # fmt: skip


def write_features(folder: Path, size: Size) -> None:
    """A manifest and a float16 store of random features; the last utterances are dev and test."""
    utterances = [
        Utterance(
            id=f"u{i:04d}",
            audio=folder / f"u{i:04d}.wav",
            transcription=LETTERS,
            split={2: "dev", 1: "test"}.get(size.utterances - i, "train"),
            labels={name: str(i % count) for name, count in CLASSES.items() if name != "speaker"},
            speaker=str(i % CLASSES["speaker"]),
        )
        for i in range(size.utterances)
    ]
    write_manifest(folder / "manifest.jsonl", utterances)
    header = {
        "format": FORMAT,
        "encoder": {"name": "random", "fingerprint": "0", "layers": size.layers, "window_seconds": None},
        "precision": "fp32",
        "layers": list(range(1, size.layers + 1)),
        "dtype": "float16",
        "dim": size.dim,
        "frame_rate": FRAME_RATE,
        "manifest_sha256": audio_hash(read_manifest(folder / "manifest.jsonl"), folder),
        "versions": {},
    }
    features = torch.randn(size.frames, size.layers, size.dim).half()  # all alike: what they are costs nothing
    with StoreWriter(folder / "store", header, shard_bytes=256_000_000) as writer:
        for utterance in utterances:
            writer.add([(utterance.id, features)])
        writer.finish([])


@dataclass
class Steps(Callback):
    """Counts the operations of a step in the second epoch and its waits in the third; times the epochs after it."""

    device: torch.device
    frames: int = 0
    seconds: float = 0.0
    operations: int = 0
    waits: list[int] = field(default_factory=list)

    def on_train_epoch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.current_epoch == 3:
            synchronize(self.device)
            self.seconds = -time.perf_counter()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            self._counter = FlopCounterMode(display=False)
            self._counter.__enter__()
        elif trainer.current_epoch == 2:
            self._caught = warnings.catch_warnings(record=True)
            self._messages = self._caught.__enter__()
            warnings.simplefilter("always")
            debug_waits(self.device, "warn")

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 0:
            self._counter.__exit__(None, None, None)
            self.operations = self._counter.get_total_flops() // len(batch.features)
        elif trainer.current_epoch == 2:
            debug_waits(self.device, "default")
            self.waits.append(sum("synchroniz" in str(warning.message) for warning in self._messages))
            self._caught.__exit__(None, None, None)
        elif trainer.current_epoch >= 3:
            self.frames += len(batch.features)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        synchronize(self.device)
        self.seconds += time.perf_counter()


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def debug_waits(device: torch.device, mode: str) -> None:
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode(mode)


def per_second(work: Callable[[], object], amount: float, device: torch.device, rounds: int = 10) -> float:
    """The amount that `work` does in a second."""
    work()
    synchronize(device)
    begun = time.perf_counter()
    for _ in range(rounds):
        work()
    synchronize(device)
    return amount * rounds / (time.perf_counter() - begun)


def copied_per_second(device: torch.device, size: Size) -> float:
    """Bytes from one place of the device's memory to another."""
    source = torch.zeros(size.copied_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    return per_second(lambda: target.copy_(source), size.copied_bytes, device)


def multiplied_per_second(device: torch.device, size: Size) -> float:
    """Floating-point operations of large products in bfloat16."""
    left, right = (torch.randn(size.matrix, size.matrix, device=device).bfloat16() for _ in range(2))
    return per_second(lambda: left @ right, 2 * size.matrix**3, device)


def encoded_per_second(folder: Path, device: torch.device, size: Size) -> float:
    """Frames that an encoder of random weights makes in bfloat16, a batch of clips of 15 s at a time."""
    Wav2Vec2Model(Wav2Vec2Config(**size.encoder)).save_pretrained(folder / "encoder")
    encoder = FrozenSpeechEncoder.from_pretrained(str(folder / "encoder"), precision="bf16", device=str(device))
    clips = torch.randn(size.clips, 15 * 16_000)
    with torch.inference_mode():
        return per_second(lambda: encoder(clips), size.clips * 15 * FRAME_RATE, device, rounds=3)


def modules(inputs: dict[str, Any], latent: int) -> dict[str, TaskModule]:
    """Everything that the protocol trains, on sources of random weights."""
    targets = ["ctc", *CLASSES]
    stage1 = Stage1VIB(inputs, latent_dim=latent)
    stage2 = Stage2ConditionalVIB(inputs, "emotion", dict(stage1.hparams), latent_dim=latent)
    sources = {
        "textual": {"kind": "Stage1VIB", "hparams": dict(stage1.hparams)},
        "acoustic": {"kind": "Stage2ConditionalVIB", "hparams": dict(stage2.hparams)},
    }
    return {
        "stage1": stage1,
        "stage2": stage2,
        "probe_hidden": Probe(inputs, targets),
        "probe_textual": Probe(inputs, targets, "textual", sources["textual"]),
        "probe_acoustic": Probe(inputs, targets, "acoustic", sources["acoustic"]),
    }


def train(module: TaskModule, data: FrameFeatureDataModule, device: torch.device, size: Size, folder: Path) -> Steps:
    """A fit as `disentangle_lightning fit` makes it, without dev epochs, checkpoints and logs."""
    steps = Steps(device)
    trainer = Trainer(
        default_root_dir=folder,
        accelerator=device.type,
        devices=1,
        precision="bf16-mixed",
        max_epochs=size.epochs,
        limit_val_batches=0,
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=False,
        callbacks=[steps],
    )
    trainer.fit(module, datamodule=data)
    return steps


def protocol_seconds(encoding: float, training: Mapping[str, float]) -> float:
    """Print the multiplication for the paper's size from frames per second; returns the sum."""
    rows = [("encode once", encoding, 1), *((name, speed, PAPER_EPOCHS) for name, speed in training.items())]
    for name, speed, epochs in rows:
        seconds = PAPER_FRAMES * epochs / speed
        print(f"  {name:16} {PAPER_FRAMES:,} frames x {epochs:2} / {speed:14,.0f} frames/s = {seconds:10,.1f} s")
    return sum(PAPER_FRAMES * epochs / speed for _, speed, epochs in rows)


def measure(device: torch.device, size: Size) -> dict[str, float]:
    """Every figure, by its name."""
    copied, multiplied = copied_per_second(device, size), multiplied_per_second(device, size)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    print(f"{card}: copies {copied / 1e9:,.1f} GB/s, multiplies {multiplied / 1e12:,.2f} TFLOP/s in bfloat16")
    figures, speeds = {}, {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        encoding = encoded_per_second(folder, device, size)
        write_features(folder, size)
        data = FrameFeatureDataModule(
            str(folder / "manifest.jsonl"),
            str(folder / "store"),
            list(CLASSES),
            max_frames=size.max_frames,
            residency="auto" if device.type == "cpu" else "device",
            verify=False,
        )
        for module_name, module in modules(data.inputs, size.latent).items():
            steps = train(module, data, device, size, folder)
            speeds[module_name] = speed = steps.frames / steps.seconds
            figures[f"gpu.{module_name}.frames_per_second"] = speed
            figures[f"gpu.{module_name}.share_of_copy"] = speed * 2 * size.layers * size.dim / copied
            figures[f"gpu.{module_name}.share_of_matmul"] = speed * steps.operations / multiplied
            figures[f"gpu.{module_name}.waits_per_step"] = sum(steps.waits) / len(steps.waits)
    print(f"the paper's 20 hours, {PAPER_FRAMES * size.layers * size.dim * 2 / 1e9:.0f} GB of features on the card:")
    return figures | {"gpu.protocol_hours": protocol_seconds(encoding, speeds) / 3600}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    device = torch.device(parser.parse_args(arguments).device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here, so nothing is measured; --device cpu tries the script itself")
        return
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    keep_freed_memory()
    torch.manual_seed(0)
    for name, figure in measure(device, BASE if device.type == "cuda" else TINY).items():
        if device.type == "cuda":
            record(name, figure, "fewer hours are better" if name.endswith("hours") else "on this card")
        else:
            print(f"{name:40} {figure:12.4g}   (not recorded)")


if __name__ == "__main__":
    main()

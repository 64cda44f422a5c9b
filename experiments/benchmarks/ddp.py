"""Two processes on a thread each against one process on one thread: frames per second of training a Stage 1.

Features of 12 layers of 768 dimensions, utterances of 1 to 5 s, stay in memory; batches have at most 4000 frames in
each process, as one process alone has them. Measured is the training in its stride, optimiser, log and loader included,
from the fourth step to the last; not the start of the processes, the reading of the features into memory, nor
validation. Both sides run in turn, each in processes of their own, forked from one that has imported everything.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import record
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything

from disentangle_lightning.corpus.manifest import Utterance, audio_hash, read_manifest, write_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.layout import FORMAT
from disentangle_lightning.features.writer import StoreWriter
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.tasks.processes import one_run
from disentangle_lightning.tasks.stage1 import Stage1VIB

LAYERS, DIM, LATENT, MAX_FRAMES = 12, 768, 128, 4000
UTTERANCES, SHORTEST, LONGEST = 480, 50, 250
WARM_UP, EPOCHS, ROUNDS = 4, 2, 3
LETTERS = "THE QUICK BROWN FOX"


class Clock(Callback):
    """The frames and seconds of this process after its first few steps."""

    def __init__(self) -> None:
        self.steps = 0
        self.frames = 0
        self.begun = self.ended = 0.0
        self.worked = -1.0

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *arguments: Any) -> None:
        self.steps += 1
        if self.steps == WARM_UP:
            self.begun, self.worked = time.perf_counter(), time.process_time()
        elif self.steps > WARM_UP:
            self.frames += arguments[1].features.shape[0]
            self.ended = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.worked = time.process_time() - self.worked


def write_features(folder: Path) -> None:
    """A manifest and a store of random features."""
    splits = ["train"] * UTTERANCES + ["dev", "test"]
    utterances = [
        Utterance(id=f"u{i:04d}", audio=folder / f"u{i:04d}.wav", transcription=LETTERS, split=split)
        for i, split in enumerate(splits)
    ]
    write_manifest(folder / "manifest.jsonl", utterances)
    header = {
        "format": FORMAT,
        "encoder": {"name": "random", "fingerprint": "0", "layers": LAYERS, "window_seconds": None},
        "precision": "fp32",
        "layers": list(range(1, LAYERS + 1)),
        "dtype": "float16",
        "dim": DIM,
        "frame_rate": 50.0,
        "manifest_sha256": audio_hash(read_manifest(folder / "manifest.jsonl"), folder),
        "versions": {},
    }
    with StoreWriter(folder / "store", header, shard_bytes=64_000_000) as writer:
        lengths = np.random.default_rng(0).integers(SHORTEST, LONGEST + 1, len(utterances)).tolist()
        for utterance, frames in zip(utterances, lengths, strict=True):
            writer.add([(utterance.id, torch.randn(frames, LAYERS, DIM).half())])
        writer.finish([])


def train(folder: Path, processes: int) -> Clock:
    """One process's part of a training."""
    torch.set_num_threads(1)
    keep_freed_memory()
    warnings.simplefilter("ignore")
    seed_everything(0, verbose=False)
    data = FrameFeatureDataModule(
        str(folder / "manifest.jsonl"),
        str(folder / "store"),
        [],
        max_frames=MAX_FRAMES,
        verify=False,
        residency="host",
    )
    clock = Clock()
    with one_run(None):
        trainer = Trainer(
            default_root_dir=folder,
            accelerator="cpu",
            devices=processes,
            strategy="ddp" if processes > 1 else "auto",
            max_epochs=EPOCHS * processes,  # as many steps in each process
            limit_val_batches=0,
            gradient_clip_val=1.0,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            logger=False,
            callbacks=[clock],
        )
        trainer.fit(Stage1VIB(data.inputs, latent_dim=LATENT), datamodule=data)
    return clock


def measure(folder: Path, processes: int) -> tuple[float, float]:
    """Frames per second of wall time of all processes together, and per second of one process's own work."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(processes):
        if child := os.fork():
            children.append(child)
            continue
        status = 1
        try:
            if processes > 1:  # as a launcher would say
                os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(processes)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            os.dup2(os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), sys.stderr.fileno())
            clock = train(folder, processes)
            (folder / f"{rank}.json").write_text(json.dumps([clock.frames, clock.ended - clock.begun, clock.worked]))
            status = 0
        except BaseException:
            traceback.print_exc()
        os._exit(status)
    if any(os.waitpid(child, 0)[1] for child in children):
        sys.exit((folder / "log").read_text())
    parts = [json.loads((folder / f"{rank}.json").read_text()) for rank in range(processes)]
    frames = sum(frames for frames, _, _ in parts)
    return frames / max(seconds for _, seconds, _ in parts), frames / sum(worked for _, _, worked in parts)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_features(folder)
        speeds: dict[int, list[float]] = {1: [], 2: []}
        works: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(ROUNDS):
            for processes in speeds:
                speed, work = measure(folder, processes)
                speeds[processes].append(speed)
                works[processes].append(work)
    one, two = (statistics.median(speeds[processes]) for processes in (1, 2))
    # What the second process costs the first in memory bandwidth and in waiting, apart from what else the machine does.
    own, shared = (statistics.median(works[processes]) for processes in (1, 2))
    record(
        "ddp.speedup",
        two / one,
        "at least 1.8",
        ours=f"{two:,.0f} frames/s in 2 processes",
        theirs=f"{one:,.0f} in 1",
        work=f"{shared / own:.2f} of the frames in a second of CPU time",
    )


if __name__ == "__main__":
    main()

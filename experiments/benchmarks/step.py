"""A training step beside the matrix products it is made of, and the trainer beside a plain loop of the same module.

`step.*.share_of_matmul` is the time of the products divided by that of the whole step, which also casts and mixes
features, draws noise, applies GELU and dropout, computes CTC, clips, optimises, logs and fetches the next batch. Steps
are those of a real `Trainer.fit`; after each of them the same products, forward and backward, are timed bare on
float32, into memory that is used again. Latents of a frozen stage are remembered after the first epoch, and only later
steps count; so no product of the frozen stage is in either side.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from harness import record
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from torch.utils.data import DataLoader

from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.nn.segments import Segments
from disentangle_lightning.tasks.base import TaskModule
from disentangle_lightning.tasks.metrics_file import MetricsFile
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.stage2 import Stage2ConditionalVIB

LAYERS, DIM, LATENT = 12, 768, 128
CLASSES = {"emotion": 6, "gender": 2, "speaker": 24, "accent": 8, "intent": 31, "age": 4, "style": 3}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ'"
VOCABULARY = len(ALPHABET) + 2
SMALL, LARGE = [150] * 16, [150] * 80

Shape = tuple[int, int, int, int]


def inputs_of(layers: int = LAYERS, dim: int = DIM) -> dict[str, Any]:
    """What a data module would say of these batches."""
    return {
        "num_layers": layers,
        "feature_dim": dim,
        "alphabet": ALPHABET,
        "label_names": {name: [f"{name}{i}" for i in range(count)] for name, count in CLASSES.items()},
        "feature_header": {
            "encoder": {"name": "random", "fingerprint": "0", "window_seconds": None},
            "layers": list(range(1, layers + 1)),
            "frame_rate": 50.0,
        },
    }


def make_batch(lengths: Sequence[int], layers: int = LAYERS, dim: int = DIM, seed: int = 0) -> FrameBatch:
    """Random float16 features, layer-major as a loader hands them out; a letter every four frames."""
    generator = torch.Generator().manual_seed(seed)
    total = sum(lengths)
    letters = [length // 4 for length in lengths]
    return FrameBatch(
        features=torch.randn(layers, total, dim, generator=generator).half().transpose(0, 1),
        segments=Segments.from_lengths(torch.tensor(lengths), total, max(lengths)),
        ids=[f"{seed}/{i}" for i in range(len(lengths))],
        targets=torch.randint(2, VOCABULARY, (sum(letters),), generator=generator),
        target_lengths=torch.tensor(letters),
        labels={name: torch.randint(count, (len(lengths),), generator=generator) for name, count in CLASSES.items()},
        transcriptions=["A"] * len(lengths),
    )


class Products:
    """Matrix products by their shapes, (batch, n, k, m), made of float32 once and multiplied as often as wanted."""

    def __init__(self, shapes: Sequence[Shape]) -> None:
        self._pairs = [(torch.randn(b, n, k), torch.randn(b, k, m), torch.empty(b, n, m)) for b, n, k, m in shapes]

    def __call__(self) -> None:
        for left, right, product in self._pairs:
            if len(left) == 1:
                torch.mm(left[0], right[0], out=product[0])
            else:
                torch.bmm(left, right, out=product)


def linear(frames: int, inputs: int, outputs: int, to_input: bool = True) -> list[Shape]:
    """A linear layer: forward, the gradient of its weights, and that of its input if anything before it trains."""
    forward, of_weights, of_input = (frames, inputs, outputs), (outputs, frames, inputs), (frames, outputs, inputs)
    return [(1, *shape) for shape in (forward, of_weights, of_input)[: 3 if to_input else 2]]


def mixing(frames: int) -> list[Shape]:
    """A layer mixer: the weighted sum, and the gradient of the weights."""
    return [(1, 1, LAYERS, frames * DIM), (1, 1, frames * DIM, LAYERS)]


def encoder(frames: int) -> list[Shape]:
    """Mixer, two layers, and the heads of mean and variance."""
    return mixing(frames) + 2 * linear(frames, DIM, DIM) + 2 * linear(frames, DIM, LATENT)


def pooling(lengths: Sequence[int], layers: int, dim: int) -> list[Shape]:
    """Eight readers of labels: scores and sums over frames, and their gradients, utterance by utterance."""
    return [shape for length in lengths for shape in 2 * [(layers, 8, dim, length), (layers, 8, length, dim)]]


@dataclass
class StepTimes(Callback):
    """Seconds of every step of a fit, and of `bare`, which is called between two steps."""

    bare: Callable[[], object] = lambda: None
    warm_up: int = 3
    steps: list[float] = field(default_factory=list)
    bares: list[float] = field(default_factory=list)
    _resumed: float = 0.0

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        now = time.perf_counter()
        if trainer.global_step > self.warm_up:
            self.steps.append(now - self._resumed)
        self.bare()
        self._resumed = time.perf_counter()
        if trainer.global_step > self.warm_up:
            self.bares.append(self._resumed - now)


def fit(module: TaskModule, batches: Sequence[FrameBatch], steps: int, times: StepTimes) -> None:
    """So many steps under a trainer as `train` makes it, without checkpoints and dev epochs."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=-(-steps // len(batches)),
            max_steps=steps,
            logger=MetricsFile(Path(folder) / "metrics.csv"),
            callbacks=[RichProgressBar(refresh_rate=10, leave=False), times],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_model_summary=False,
            gradient_clip_val=1.0,
            log_every_n_steps=10,
            use_distributed_sampler=False,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]


def plain_loop(module: Stage1VIB, batches: Sequence[FrameBatch], steps: int) -> list[float]:
    """Seconds of each step of the same module and optimiser without a trainer, a log or a schedule."""
    optimizer = module.configure_optimizers()
    module.train()
    seconds = []
    for number in range(steps):
        begun = time.perf_counter()
        batch = batches[number % len(batches)]
        posterior = module.latent_encoder(batch.features, batch.segments)
        terms = module.terms(batch, module.logits(batch, module.latent_encoder.latent(posterior)), posterior)
        optimizer.zero_grad()
        (terms["task"] / terms["task_weight"] + 0.02 * terms["kl"] / terms["frames"]).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    return seconds[3:]


def make_modules(lengths: Sequence[int]) -> dict[str, tuple[TaskModule, list[Shape]]]:
    """A module of each kind, and the products of its step on utterances of these lengths."""
    frames, inputs, targets = sum(lengths), inputs_of(), [*CLASSES, "ctc"]
    stage1 = Stage1VIB(inputs, latent_dim=LATENT)
    trained = dict(stage1.hparams)
    source = {"kind": "Stage1VIB", "hparams": trained}
    ctc_of_hidden = mixing(frames) + linear(frames, DIM, VOCABULARY)
    ctc_of_latents = linear(frames, LATENT, VOCABULARY, to_input=False)
    return {
        "stage1": (stage1, encoder(frames) + linear(frames, LATENT, VOCABULARY)),
        "stage2": (Stage2ConditionalVIB(inputs, "emotion", trained, latent_dim=LATENT), encoder(frames)),
        "probe_hidden": (Probe(inputs, targets), pooling(lengths, LAYERS, DIM) + ctc_of_hidden),
        "probe_latent": (Probe(inputs, targets, "textual", source), pooling(lengths, 1, LATENT) + ctc_of_latents),
    }


def measure_shares(threads: int, lengths: Sequence[int], steps: int) -> dict[str, float]:
    """Record `step.*.share_of_matmul`; returns the median seconds of a step of each module."""
    batches = [make_batch(lengths, seed=seed) for seed in range(2)]
    seconds = {}
    for name, (module, shapes) in make_modules(lengths).items():
        times = StepTimes(Products(shapes), warm_up=4)
        fit(module, batches, steps + times.warm_up, times)
        seconds[name], bare = statistics.median(times.steps), statistics.median(times.bares)
        record(
            f"step.{name}.share_of_matmul.frames_{sum(lengths)}.threads_{threads}",
            bare / seconds[name],
            "at least 0.85",
            ours=f"{seconds[name] * 1e3:.1f} ms a step",
            theirs=f"{bare * 1e3:.1f} ms of products",
        )
    return seconds


def trainer_overhead(rounds: int = 3) -> float:
    """Seconds that the trainer adds to a step, of a module so small that little else is left."""
    inputs = inputs_of(2, 16)
    batches = [make_batch([8] * 4, 2, 16, seed) for seed in range(10)]
    module = Stage1VIB(inputs, latent_dim=4)
    times, plain = StepTimes(warm_up=20), []
    for _ in range(rounds):
        fit(module, batches, 200, times)
        plain += plain_loop(module, batches, 200)
    return statistics.mean(times.steps) - statistics.mean(plain)


def main() -> None:
    keep_freed_memory()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        seconds = measure_shares(threads, SMALL, steps=12)
        overhead = trainer_overhead()
        record(
            f"step.lightning_overhead.threads_{threads}",
            overhead / seconds["stage1"],
            "a share of a Stage 1 step",
            ours=f"{overhead * 1e3:.2f} ms a step",
            theirs=f"{seconds['stage1'] * 1e3:.1f} ms in all, {sum(SMALL)} frames",
        )
        measure_shares(threads, LARGE, steps=5)


if __name__ == "__main__":
    main()

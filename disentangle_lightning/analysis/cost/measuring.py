"""A few steps of one training, timed in a process of its own, whose memory is then its own, too."""

from __future__ import annotations

import importlib
import logging
import re
import resource
import sys
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback

from disentangle_lightning.analysis.cost.fine_tuning import FineTuning, quiet_trainer, trained_parameters
from disentangle_lightning.corpus.audio import load_utterance
from disentangle_lightning.corpus.manifest import read_manifest
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.job import load_encoder
from disentangle_lightning.memory import keep_freed_memory

WARM_UP = 2
"""Steps that are not timed: the first ones fetch memory and fill caches."""


@dataclass(frozen=True)
class Measured:
    """What a training costs.

    Attributes:
        seconds: of each timed step.
        steps: of an epoch.
        parameters: how many are trained.
        megabytes: the peak of the process's memory, resident set.
        libraries: that peak before any data was read: Python, PyTorch and what else is imported.
        device_megabytes: the peak that PyTorch had on a GPU; 0 without one.
        encoding: seconds that the encoder took for each clip that it was timed on.
    """

    seconds: list[float]
    steps: int
    parameters: int
    megabytes: float
    libraries: float
    device_megabytes: float
    encoding: list[float]


def measure(tree: dict[str, Any], steps: int, encoder: dict[str, Any] | None = None) -> Measured:
    """Time `steps` steps of a training, in a new process.

    Args:
        tree: settings as for `fit`.
        steps: how many are timed, after `WARM_UP` others.
        encoder: arguments of `load_encoder`; the encoder is then timed on as many clips, and fine-tuned by the probe
            that the settings are of.
    """
    # Spawned: a forked process would begin with all the memory of this one.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_measure, tree, steps, encoder).result()


def peak_megabytes() -> float:
    """The most memory that this process had resident.

    Linux hands getrusage's figure on from the process that starts another: its own is in /proc.
    """
    status = Path("/proc/self/status")
    if status.is_file() and (peak := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        return int(peak[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


class _Clock(Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def _measure(tree: dict[str, Any], steps: int, encoder: dict[str, Any] | None) -> Measured:
    keep_freed_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.manual_seed(0)
    libraries = peak_megabytes()
    data = FrameFeatureDataModule(**tree["data"])
    arguments = {"inputs": data.inputs, **tree["model"]["init_args"]}
    encoding: list[float] = []
    if encoder is None:
        package, _, name = tree["model"]["class_path"].rpartition(".")
        module = getattr(importlib.import_module(package), name)(**arguments)
    else:
        utterances = {u.id: u for u in read_manifest(tree["data"]["manifest"])}
        encoding = _time_encoding(list(utterances.values())[: steps + WARM_UP], encoder)
        # In fp32 whatever the run encodes with: weights that were rounded to bf16 cannot be trained.
        module = FineTuning(load_encoder(**encoder | {"precision": "fp32"}), utterances, **arguments)
    clock = _Clock()
    given = {name: tree["trainer"][name] for name in ("accelerator", "precision") if name in tree["trainer"]}
    wanted = steps + WARM_UP  # one epoch has a step at least
    quiet_trainer(max_steps=wanted, max_epochs=wanted, callbacks=[clock], **given).fit(module, data)
    spans = [end - begin for begin, end in zip(clock.ends, clock.ends[1:], strict=False)]
    return Measured(
        spans[WARM_UP - 1 :],
        len(data.train_dataloader()),
        trained_parameters(module),
        peak_megabytes(),
        libraries,
        torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else 0.0,
        encoding,
    )


def _time_encoding(utterances: list[Any], encoder: dict[str, Any]) -> list[float]:
    frozen = load_encoder(**encoder)
    if torch.cuda.is_available():
        frozen.to("cuda")
    seconds = []
    for utterance in utterances:
        begun = time.perf_counter()
        frozen(load_utterance(utterance)[None]).cpu()
        seconds.append(time.perf_counter() - begun)
    return seconds[WARM_UP:]

"""What the three LightningModules share: optimiser and schedules, checkpoints that say what they are, results."""

from __future__ import annotations

import json
import math
import pickle
import zipfile
import zlib
from abc import abstractmethod
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypedDict, TypeVar, cast

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.loader import FrameLoader

_FORMAT = "disentangle_lightning"
"""The checkpoint entry that names the class: what tells our checkpoints from others and stages from each other."""

_PLAN = "plan"
"""The checkpoint entry with what decides its plan of batches."""

_MIXER_WEIGHTS = "mixer.theta"

LEAST_WEIGHT = 1e-6
"""Below one utterance shared by any number of processes: divides a sum that is zero where no utterance counts."""


class Inputs(TypedDict):
    """What a data module says of its features and targets; plain types, so that it fits in any checkpoint.

    num_layers and feature_dim are L and D of the features; alphabet is the CTC letters; label_names maps each
    label to its classes in index order; feature_header is the header of the feature store.
    """

    num_layers: int
    feature_dim: int
    alphabet: str
    label_names: dict[str, list[str]]
    feature_header: dict[str, Any]


class TaskModule(LightningModule):
    """AdamW on what requires a gradient, learning rate and beta as functions of training progress.

    Progress is computed from the epoch and the batch, never from a scheduler's own counter, and so is the seed of each
    step's noise: a training that was interrupted goes on with exactly the rates and the noise it would have had.

    Args:
        learning_rate: the peak.
        weight_decay: of AdamW.
        warmup_fraction: the share of training over which the rate rises from zero; then it falls as a cosine.
        mixer_rate: how many times faster than the rest the layer weights learn. At 1, as in the paper, they hardly
            leave their uniform start, for a step moves a logit of theirs as little as any weight among thousands.
    """

    monitor: str | None = None
    """The dev figure by which best.ckpt is chosen, the smaller the better; None takes the last epoch."""

    def __init__(self, learning_rate: float, weight_decay: float, warmup_fraction: float, mixer_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.mixer_rate = mixer_rate

    @property
    @abstractmethod
    def targets(self) -> list[str]:
        """What is learnt: labels of the data, and `ctc` for transcription."""

    @property
    def progress(self) -> float:
        """How much of training is over, from 0 to 1, at the start of the current step."""
        batches = self.trainer.num_training_batches
        done = self.trainer.current_epoch + self._batch_index / batches
        return min(1.0, done / (self.trainer.max_epochs or 1))

    @property
    def steps(self) -> int:
        """Of the whole training: batches times epochs."""
        return int(self.trainer.num_training_batches) * (self.trainer.max_epochs or 1)

    _batch_index = 0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        trained = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in trained if not name.endswith(_MIXER_WEIGHTS)], "factor": 1.0},
            {"params": [p for name, p in trained if name.endswith(_MIXER_WEIGHTS)], "factor": self.mixer_rate},
        ]
        # Fused: one pass over the weights in place of ten.
        optimizer = torch.optim.AdamW(groups, lr=self.learning_rate, weight_decay=self.weight_decay, fused=True)
        # Under 16-mixed the scaler is to divide the gradients before they are clipped, not this optimiser afterwards.
        optimizer._step_supports_amp_scaling = False
        return optimizer

    def on_fit_start(self) -> None:
        self._seed = torch.initial_seed()

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self._batch_index = batch_idx
        place = (self.trainer.current_epoch, batch_idx, self.global_rank)
        _seed_draws(int(np.random.SeedSequence([self._seed, *place]).generate_state(1)[0]), self.device)
        rate = self.learning_rate * rate_factor(self.progress, self.warmup_fraction)
        optimizer = self.optimizers()
        for group in optimizer.param_groups:  # type: ignore[union-attr]
            group["lr"] = rate * group["factor"]

    def on_train_start(self) -> None:
        if self._trained_plan is not None:
            cast(FrameLoader, self.trainer.train_dataloader).sampler.check_same(self._trained_plan)

    _trained_plan: dict[str, Any] | None = None

    def log_step(self, figures: dict[str, Any], batch: FrameBatch) -> None:
        """`log_dict` for a training step, but only where the loggers will be told: it takes a millisecond a figure."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every and (self.trainer.global_step + 1) % every == 0:
            self.log_dict(figures, batch_size=len(batch))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[_FORMAT] = type(self).__name__
        loader = None if self._trainer is None else self._trainer.train_dataloader  # a module is also saved by itself
        if isinstance(loader, FrameLoader):
            checkpoint[_PLAN] = loader.sampler.fingerprint

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._trained_plan = checkpoint.get(_PLAN)

    def is_repeat(self, batch_idx: int) -> bool:
        """Whether an evaluation batch was dealt only to give every process the same number of them.

        The plan repeats one only where every batch is a single utterance: U of them, and then their first few again.
        """
        trainer = self.trainer
        if trainer.world_size == 1:
            return False
        loader: Any = trainer.test_dataloaders
        if trainer.validating or trainer.predicting:
            loader = trainer.val_dataloaders if trainer.validating else trainer.predict_dataloaders
        return batch_idx * trainer.world_size + trainer.global_rank >= len(loader.dataset)

    def write_results(self, figures: dict[str, float], **files: Any) -> None:
        """Write summary.json and `NAME.json` for each of `files` into the run directory, each atomically."""
        if not self.trainer.is_global_zero:
            return
        folder = Path(self.trainer.default_root_dir)
        for name, content in {**files, "summary": figures}.items():
            write_json(folder / f"{name}.json", content)


def init_arguments(local_variables: dict[str, Any]) -> dict[str, Any]:
    """The arguments of an __init__ that has set no other local variable yet: `init_arguments(locals())`."""
    return {k: v for k, v in local_variables.items() if k not in ("self", "__class__")}


def _seed_draws(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of this device.

    `torch.manual_seed` seeds every kind of device, and where there is no GPU it keeps a stack trace of each call for
    the day that CUDA starts: a millisecond a step, and memory that is never freed.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def rate_factor(progress: float, warmup_fraction: float) -> float:
    """Linear warm-up, then half a cosine down to zero; both ends in [0, 1].

    >>> rate_factor(0.05, 0.1), rate_factor(0.1, 0.1)
    (0.5, 1.0)
    """
    if progress < warmup_fraction:
        return progress / warmup_fraction
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup_fraction) / (1 - warmup_fraction)))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically: readers see the old file or the whole new one."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


Task = TypeVar("Task", bound=TaskModule)
Item = TypeVar("Item")


def load_task(path: str | Path, kind: type[Task]) -> Task:
    """A trained module from its checkpoint, on the CPU, in evaluation mode. Nothing in the file can run code.

    Raises:
        UserError: the file is missing, is no checkpoint, would run code when loaded, is of another kind, or was
            written by a version of this package that knew other settings.
    """
    content = read_checkpoint(path)
    found = content.get(_FORMAT)
    if found is None:
        raise UserError(f"checkpoint {path} was not written by disentangle_lightning")
    if found != kind.__name__:
        raise UserError(f"checkpoint {path} holds a {found}; a {kind.__name__} is needed here")
    try:
        module = kind(**{k: v for k, v in content["hyper_parameters"].items() if not k.startswith("_")})
        module.load_state_dict(content["state_dict"])
    except (TypeError, RuntimeError) as error:
        raise UserError(
            f"checkpoint {path} was written by another version of disentangle_lightning: {str(error).splitlines()[0]}"
        ) from None
    module.on_load_checkpoint(content)
    return module.eval()


def checkpoint_kind(path: str | Path) -> str | None:
    """The class name a checkpoint was written by, or None where it is not one of ours."""
    kind: str | None = read_checkpoint(path).get(_FORMAT)
    return kind


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, loaded without running any code that it may carry.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors and plain types.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist")
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise UserError(f"checkpoint {path} holds objects that could run code when loaded; it was not loaded") from None
    except (RuntimeError, ValueError):
        raise UserError(f"checkpoint {path} is damaged") from None
    if not isinstance(content, dict):
        raise UserError(f"checkpoint {path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _check_archive(path: Path) -> None:
    """Compare every checksum: torch does not, and would load changed weights as if they were right."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError, ValueError):
        raise UserError(f"checkpoint {path} is damaged, or no checkpoint at all") from None
    if damaged is not None:
        raise UserError(f"checkpoint {path} is damaged: the checksum of {damaged} differs")


def gather(batches: list[list[Item]]) -> list[Item]:
    """The items of every process's batches, in the order in which one process alone would have had them.

    The plan deals batch number s W + r to step s of process r, so it is the order of (s, r).
    """
    parts = [batches]
    if torch.distributed.is_initialized():
        parts = [[] for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather_object(parts, batches)
    return [item for step in zip_longest(*parts, fillvalue=[]) for batch in step for item in batch]


def mean_over_ranks(values: Tensor) -> Tensor:
    """The mean of a small vector over all processes, without a gradient; on one process, the vector itself.

    Data-parallel training averages the gradients of the processes. Where each divides its sum by this mean of what
    all of them would divide by, that average is the gradient that one process has on all their batches together.
    """
    values = values.detach()
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def sum_over_ranks(values: Tensor) -> Tensor:
    """The sum of a vector over all processes, without a gradient; on one process, the vector itself."""
    ranks = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    return mean_over_ranks(values) * ranks


def freeze(module: nn.Module) -> None:
    """No gradients and evaluation mode: data-parallel training stops on parameters that take no part."""
    module.requires_grad_(False)
    module.eval()


def check_same_features(inputs: Inputs, trained: Inputs, what: str) -> None:
    """Refuse features of other weights, or of other layers, than a module was trained on.

    Raises:
        UserError: naming what differs and both values.
    """
    ours, theirs = inputs["feature_header"], trained["feature_header"]
    for name in ("fingerprint", "window_seconds"):
        if ours["encoder"].get(name) != theirs["encoder"].get(name):
            raise UserError(
                f"{what} was trained on features of encoder {theirs['encoder']['name']} "
                f"({name} {theirs['encoder'].get(name)}); the store holds those of "
                f"{ours['encoder']['name']} ({name} {ours['encoder'].get(name)})"
            )
    if ours["layers"] != theirs["layers"]:
        raise UserError(f"{what} was trained on layers {theirs['layers']}; these features have layers {ours['layers']}")


def label_classes(label_names: dict[str, list[str]], label: str) -> list[str]:
    """The classes of a label.

    Raises:
        UserError: the data module was not asked for this label.
    """
    if label not in label_names:
        raise UserError(
            f"label '{label}' is not among the data's labels ({', '.join(label_names) or 'none'}); "
            "add it to data.labels, or to data.hidden_labels what is only hidden"
        )
    return label_names[label]

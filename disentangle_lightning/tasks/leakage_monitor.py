"""While a stage trains: how much can be read from its latent that it should not say, and the trade-off with its task.

A quick and cheap measure for sweeps and for choosing an epoch, not the evidence: that is what the probes are for.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from disentangle_lightning.errors import UserError
from disentangle_lightning.features.batch import FrameBatch
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.features.loader import FrameLoader
from disentangle_lightning.features.targets import CTC_TARGET
from disentangle_lightning.nn.segments import segment_mean
from disentangle_lightning.tasks.base import write_json
from disentangle_lightning.tasks.linear_reader import Array, Reader, fit_classes, fit_values, moments
from disentangle_lightning.tasks.vib_stage import VIBStage

TRANSCRIPTION = "transcription"
"""The name among `labels` for what was said."""


class LeakageMonitor(Callback):
    """Logs `dev/leakage_LABEL` and `dev/tradeoff` at the end of every dev epoch; lower is better for both.

    tradeoff = task error on dev + weight * mean over labels of max(0, leakage)

    with the word error rate of Stage 1 and 1 - accuracy of Stage 2 as task error. The leakage of a label is
    (a - c) / (1 - c): a is the accuracy on dev of a linear classifier (linear discriminant analysis) that sees the mean
    of the latent over each utterance, c that of always giving the commonest answer; 0 is chance, 1 is always right. The
    classifier is fitted anew each time on the split `probe`, on which no stage trains. It is closed-form and draws no
    random number, so a training with it has the same weights as one without.

    `transcription` among the labels stands for what was said, of which nothing should be left in Stage 2's z_acoustic:
    its leakage is the part of the variance of an utterance's letter frequencies that a linear regression explains on
    dev. (A latent that says the letters frame by frame has a mean that is linear in them. Unlike the sentence as a
    class, this can be measured where dev's sentences occur in no other split.)

    When not to trust it: it is a lower bound. What changes within an utterance and averages out, and what only a
    non-linear reader finds, is not seen; nor are words that differ in the order of their letters alone. On few dev
    utterances it is coarse, and the lowest of many epochs or runs is lower than the truth: the figures of `test`, which
    chooses nothing, are written to leakage.json in the run directory. Publish those of trained probes.

    Args:
        labels: what should not be readable: labels of the data, and `transcription`.
        weight: how much error of the task a leakage of 1 is worth.

    Raises:
        UserError: an argument is out of range; when training starts: what is trained is no stage, a label is what it
            is trained to keep, or is unknown to the data or to a split of it, or there is no split `probe`.
    """

    def __init__(self, labels: list[str], weight: float = 1.0) -> None:
        if not labels:
            raise UserError("LeakageMonitor.labels is empty; name what should not be readable, such as [speaker]")
        if not 0 <= weight < math.inf:
            raise UserError(f"LeakageMonitor.weight is {weight}; it must be a finite number of 0 or more")
        self.labels = list(dict.fromkeys(labels))
        self.weight = weight
        self._probe: FrameLoader | None = None
        self._seen: list[_Utterances] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not isinstance(pl_module, VIBStage):
            raise UserError(f"LeakageMonitor watches the latent of a stage, not a {type(pl_module).__name__}")
        data = cast(FrameFeatureDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        for label in self.labels:
            if _target(label) in pl_module.targets:
                raise UserError(
                    f"LeakageMonitor.labels has '{label}', which {type(pl_module).__name__} is trained to keep; "
                    "leave it out"
                )
            if label != TRANSCRIPTION and label not in data.label_names:
                raise UserError(
                    f"LeakageMonitor.labels has '{label}', which is not among the data's labels "
                    f"({', '.join(data.label_names) or 'none'}); add it to data.labels"
                )
        data.add_probe_split()
        data.check_targets([_target(label) for label in self.labels])
        self._probe = None
        self._seen = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._see(trainer, pl_module, batch, batch_idx, trainer.val_dataloaders)

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._see(trainer, pl_module, batch, batch_idx, trainer.test_dataloaders)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        leakage = self._leakage(trainer, pl_module, "dev")
        # Callbacks are called before the module, which resets its metrics.
        tradeoff = cast(VIBStage, pl_module).task_error() + self.weight * float(
            np.maximum(list(leakage.values()), 0).mean()
        )
        pl_module.log_dict(
            {f"dev/leakage_{label}": value for label, value in leakage.items()} | {"dev/tradeoff": tradeoff}
        )

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before summary.json, which says that the run is done, is written."""
        leakage = self._leakage(trainer, pl_module, "test")
        pl_module.log_dict({f"test/leakage_{label}": value for label, value in leakage.items()})
        if trainer.is_global_zero:
            file = Path(trainer.default_root_dir) / "leakage.json"
            write_json(file, {"weight": self.weight, "test": {k: _plain(v) for k, v in leakage.items()}})

    def _see(
        self, trainer: Trainer, pl_module: LightningModule, batch: FrameBatch, batch_idx: int, loader: Any
    ) -> None:
        if not _is_repeat(trainer, loader, batch_idx):
            self._seen.append(_Utterances(trainer, cast(VIBStage, pl_module), batch, self.labels))

    def _leakage(self, trainer: Trainer, pl_module: LightningModule, split: str) -> dict[str, float]:
        """Of each label, over the utterances that were seen since the last call."""
        stage, seen = cast(VIBStage, pl_module), self._seen
        self._seen = []
        data = cast(FrameFeatureDataModule, trainer.datamodule)  # type: ignore[attr-defined]
        if self._probe is None:
            self._probe = data.probe_dataloader()
        dim: int = stage.hparams["latent_dim"]
        sums = {label: np.zeros((1 + dim + self._size(stage, label),) * 2) for label in self.labels}
        for batch_idx, batch in enumerate(self._probe):
            if _is_repeat(trainer, self._probe, batch_idx):
                continue
            utterances = _Utterances(trainer, stage, data.transfer_batch_to_device(batch, stage.device, 0), self.labels)
            for label in self.labels:
                sums[label] += moments(*utterances.known(label, self._size(stage, label)))
        leakage = {}
        for label in self.labels:
            errors = _errors(label, _sum_over_ranks(sums[label], stage), dim, seen)
            wrong, wrong_without = _sum_over_ranks(errors, stage)
            if wrong_without == 0:
                raise UserError(
                    f"LeakageMonitor.labels has '{label}', which is always the same on split '{split}' where it is "
                    "known, so nothing can be measured; leave it out"
                )
            leakage[label] = float(1 - wrong / wrong_without)
        return leakage

    @staticmethod
    def _size(stage: VIBStage, label: str) -> int:
        """How many outcomes there are of a label: its classes, or the letters and the space."""
        if label == TRANSCRIPTION:
            return 1 + len(stage.inputs["alphabet"])
        return len(stage.inputs["label_names"][label])


class _Utterances:
    """The mean latents of a batch's B utterances, and what may be read from them, on the host."""

    def __init__(self, trainer: Trainer, stage: VIBStage, batch: FrameBatch, labels: list[str]) -> None:
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            latents = stage.latent_encoder(batch.features, batch.segments).mean.float()
        self._means: Array = segment_mean(latents, batch.segments).double().cpu().numpy()
        self._classes = {name: batch.labels[name].cpu().numpy() for name in labels if name != TRANSCRIPTION}
        self._targets, self._lengths = batch.targets.cpu().numpy(), batch.target_lengths.cpu().numpy()

    def known(self, label: str, size: int) -> tuple[Array, Array]:
        """Means [U, d] and outcomes [U, size] of the utterances that have the label: one-hot, or letter frequencies."""
        outcomes = np.zeros((len(self._means), size))
        if label == TRANSCRIPTION:
            known = self._lengths > 0
            whose = np.repeat(np.arange(len(known)), self._lengths)
            np.add.at(outcomes, (whose, self._targets - 1), 1.0)  # 0 is the blank, which no transcription has
            outcomes /= np.maximum(self._lengths, 1)[:, None]
        else:
            classes = self._classes[label]
            known = classes >= 0
            outcomes[known, classes[known]] = 1.0
        return self._means[known], outcomes[known]


def _errors(label: str, sums: Array, dim: int, seen: list[_Utterances]) -> Array:
    """[2]: what is wrong where the latent is read, and where the answer is the same for all: answers, or squares."""
    errors = np.zeros(2)
    if not np.isfinite(sums).all():
        return np.full(2, np.nan)  # of a training that has diverged
    size = len(sums) - 1 - dim
    fit = fit_values if label == TRANSCRIPTION else fit_classes
    reader: Reader = fit(sums, dim)
    alike = sums[0, 1 + dim :]
    for utterances in seen:
        means, outcomes = utterances.known(label, size)
        if label == TRANSCRIPTION:
            errors[0] += ((reader(means) - outcomes) ** 2).sum()
            errors[1] += ((alike / sums[0, 0] - outcomes) ** 2).sum()
        else:
            classes = outcomes.argmax(axis=1)
            errors[0] += (reader(means).argmax(axis=1) != classes).sum()
            errors[1] += (alike.argmax() != classes).sum()
    return errors


def _target(label: str) -> str:
    return CTC_TARGET if label == TRANSCRIPTION else label


def _is_repeat(trainer: Trainer, loader: Any, batch_idx: int) -> bool:
    """Whether a batch was dealt only to give every process the same number; see `TaskModule.is_repeat`."""
    world_size = trainer.world_size
    return world_size > 1 and batch_idx * world_size + trainer.global_rank >= len(loader.dataset)


def _sum_over_ranks(values: Array, module: LightningModule) -> Array:
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return values
    total = torch.from_numpy(values).to(module.device)
    torch.distributed.all_reduce(total)
    summed: Array = total.cpu().numpy()
    return summed


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None

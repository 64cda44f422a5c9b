"""The checkpoints of a run: whole files at any instant, and none far behind the training."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from disentangle_lightning import slurm
from disentangle_lightning.errors import StoppedBySignal
from disentangle_lightning.tasks.base import TaskModule

_LOOK_SECONDS = 10.0
"""How often several processes ask each other whether to stop."""


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside a checkpoint, then renames: whatever is killed leaves the old file or all of the new one.

    (Lightning's own writes to the system's temporary folder. Where that is another file system, as beside a home
    directory on a server, its move is a copy: killed in it, the run would have lost the checkpoint it goes on from.)
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        try:
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())  # or a rename may reach the disk before what it names
        except (OSError, RuntimeError) as error:  # the latter is PyTorch's, raised from that of a full disk
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise OSError(cause.errno, cause.strerror, str(path)) from None
        temporary.replace(path)


class RunCheckpoint(ModelCheckpoint):
    """`best.ckpt` and `last.ckpt` at the end of each epoch, and `last.ckpt` again within one that is long.

    A checkpoint within an epoch waits as pending.ckpt until the next step begins: by then the figures of its own step
    are in metrics.csv, so whenever a run is killed, it goes on without a row lost or doubled. None is made where
    validation follows, for it would have to be made again, nor between two steps of the optimiser.

    A SLURM job that is asked to stop (`slurm.asked`) does so at its next checkpoint, which it makes at once.

    Args:
        monitor: the dev figure by which best.ckpt is chosen; None takes the last epoch, `auto` asks the module.
        last_every_minutes: how much training a kill may cost; None means up to an epoch.
        last_every_steps: make it after every so many steps as well.
        options: those of Lightning's ModelCheckpoint.
    """

    def __init__(
        self,
        *,
        monitor: str | None = "auto",
        last_every_minutes: float | None = 5.0,
        last_every_steps: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(monitor=monitor, **options)
        self._interval = float("inf") if last_every_minutes is None else 60 * last_every_minutes
        self._every_steps = last_every_steps
        self._pending = self._stopping = False
        self._restart_clock()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.monitor == "auto":
            self.monitor = pl_module.monitor if isinstance(pl_module, TaskModule) else None
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and trainer.is_global_zero:
            for left in ("pending.ckpt", "pending.ckpt.tmp", "best.ckpt.tmp", "last.ckpt.tmp"):
                self._file(left).unlink(missing_ok=True)  # of a run that was killed

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self._restart_clock()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if self._pending and trainer.is_global_zero:
            self._file("pending.ckpt").replace(self._file("last.ckpt"))
        self._pending = False
        if self._stopping:
            raise StoppedBySignal

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if not self.save_last or _is_no_place_to_go_on(trainer, batch_idx):
            return
        due = self._every_steps is not None and trainer.global_step % self._every_steps == 0
        late, self._stopping = self._look(trainer)
        if due or late or self._stopping:
            trainer.save_checkpoint(self._file("pending.ckpt"), self.save_weights_only)
            self._pending = True
            self._restart_clock()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer):  # Lightning writes it only where the epoch is the best yet
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
        self._restart_clock()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_end(trainer, pl_module)
        if self._pending and trainer.is_global_zero:
            self._file("pending.ckpt").unlink()
        self._pending = False

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the scores of a run whose directory has been moved; Lightning would forget them."""
        names = {path: Path(path).name for path in state_dict["best_k_models"]}
        if names and all(self._file(name).is_file() for name in names.values()):
            here = {path: str(self._file(name)) for path, name in names.items()}
            state_dict = state_dict | {
                "dirpath": self.dirpath,
                "best_k_models": {here[path]: score for path, score in state_dict["best_k_models"].items()},
                "best_model_path": here[state_dict["best_model_path"]],
                "kth_best_model_path": here.get(state_dict["kth_best_model_path"], ""),
                "last_model_path": str(self._file("last.ckpt")),
            }
        super().load_state_dict(state_dict)

    def _file(self, name: str) -> Path:
        return Path(self.dirpath or ".") / name

    def _restart_clock(self) -> None:
        self._begun = time.monotonic()
        self._steps = 0
        self._next_look = 1

    def _look(self, trainer: Trainer) -> tuple[bool, bool]:
        """Whether the minutes are over by the first process's clock, and whether it was asked to stop.

        All processes must agree, which makes them wait for each other; so several look after half of the steps that
        are left until then, and again after half of the rest, but once in `_LOOK_SECONDS` at least.
        """
        self._steps += 1
        if trainer.world_size > 1 and self._steps < self._next_look:
            return False, False
        passed = time.monotonic() - self._begun
        left = self._interval - passed
        wait = max(1, int(min(left / 2, _LOOK_SECONDS) * self._steps / max(passed, 1e-3)))
        late, stopping, wait = trainer.strategy.broadcast((left <= 0, slurm.asked(), wait))
        self._next_look = self._steps + wait
        return late, stopping


def _is_no_place_to_go_on(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the end of the training, a validation, or more of the same gradient follows this batch."""
    if trainer.is_last_batch or trainer.should_stop or (batch_idx + 1) % trainer.accumulate_grad_batches:
        return True
    batches = batch_idx if trainer.check_val_every_n_epoch else trainer.fit_loop.total_batch_idx
    every = trainer.val_check_batch
    return every is None or (batches + 1) % every == 0

"""The W&B run of a run directory: one, however often the training is stopped and goes on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only

from disentangle_lightning import slurm
from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import StoppedBySignal

_ID_FILE = "wandb_run_id.txt"


def complete_settings(init_args: Any, run_dir: Path, goes_on: bool) -> None:
    """Fill in the settings of a WandbLogger: offline without an account, and of `fit` the id that its directory keeps.

    Args:
        init_args: of the logger; one that names its id keeps it.
        run_dir: of the run.
        goes_on: whether what is logged belongs to the run that the directory holds; it then starts one, or goes on.
    """
    if not _is_configured():
        rank_zero_info("W&B: no API key, so this run is logged offline; `wandb sync` sends it later")
        init_args.offline = True
    in_sweep = "WANDB_SWEEP_ID" in os.environ  # W&B names its runs, and would warn of another name
    if goes_on and not in_sweep and init_args.get("id") is None and init_args.get("version") is None:
        init_args.id = _kept_id(run_dir)


def without_kept_id(logger: Any, run_dir: Path) -> None:
    """Take the id out of a logger's settings again: config.yaml starts another run elsewhere."""
    file = run_dir / _ID_FILE
    kept = file.read_text(encoding="utf-8").strip() if file.is_file() else None
    if kept and hasattr(logger, "init_args") and logger.init_args.get("id") == kept:
        logger.init_args.id = None


class EndWandb(Callback):
    """Ends the W&B run of a training that SLURM stops: "preempted", which a sweep gives out once more."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, StoppedBySignal):
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.experiment.mark_preempting()
                    logger.experiment.finish(exit_code=slurm.STATUS)


def _is_configured() -> bool:
    if os.environ.get("WANDB_MODE"):
        return True
    import wandb

    return wandb.api.api_key is not None


@rank_zero_only
def _kept_id(run_dir: Path) -> str:
    """The id that the directory keeps; a new directory gets the one that W&B's environment variable names, or any."""
    file = run_dir / _ID_FILE
    if not file.is_file():
        from wandb.sdk.lib.runid import generate_id

        run_dir.mkdir(parents=True, exist_ok=True)
        write_text(file, os.environ.get("WANDB_RUN_ID") or generate_id())
    return file.read_text(encoding="utf-8").strip()

"""`fit`, `validate`, `test` and `predict`: LightningCLI with one run directory per run."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import Logger, WandbLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities import rank_zero_info

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import UserError
from disentangle_lightning.features.datamodule import FrameFeatureDataModule
from disentangle_lightning.memory import keep_freed_memory
from disentangle_lightning.provenance import facts
from disentangle_lightning.settings import DEFAULT_RUN_DIR
from disentangle_lightning.tasks.base import TaskModule, read_checkpoint, write_json
from disentangle_lightning.tasks.checkpoints import AtomicCheckpointIO, RunCheckpoint
from disentangle_lightning.tasks.metrics_file import MetricsFile
from disentangle_lightning.tasks.predictions import PredictionWriter
from disentangle_lightning.tasks.probe import Probe
from disentangle_lightning.tasks.processes import one_run
from disentangle_lightning.tasks.refusals import OPEN, check_complete, refusal, user_error_behind
from disentangle_lightning.tasks.stage1 import Stage1VIB
from disentangle_lightning.tasks.wandb_run import EndWandb, complete_settings, without_kept_id

# Without this, `${beta}` keeps its first value after a later override, silently.
jsonargparse.set_parsing_settings(omegaconf_absolute_to_relative_paths=True)

_MAY_CHANGE = (
    "ckpt_path",
    "run_dir",
    "trainer.max_epochs",
    "trainer.logger",
    "checkpoint.last_every",
    "weights_only",
    "verbose",
)
"""Settings that a resumed run may change; every other one is part of what the run is."""

_TAKEN_FROM_FILES = ("inputs", "stage1", "source", "given", "control")
"""Arguments of which a checkpoint carries the content, not the path."""

_SPLITS = {"validate": ["dev"], "test": ["test"], "predict": []}
"""Where a verb needs the targets; `fit` needs them in every split."""


def train(args: ArgsType = None) -> TrainingCLI:
    """Run one of `fit`, `validate`, `test`, `predict` from command-line arguments; returns the finished CLI.

    `fit` goes on from `checkpoints/last.ckpt` where its run directory has one, and ends with the test of the
    checkpoint that was best on dev.

    Raises:
        UserError: a bad setting or file, or a run directory that holds another run.
        LostProcess: another process of a run in several died.
        StoppedBySignal: `slurm.asked`, and the checkpoint to go on from is made.
    """
    return _command(TrainingCLI, args)


def check_settings(args: list[str]) -> None:
    """Parse command-line arguments as `train` does, and leave it at that.

    Raises:
        UserError: a field is unknown, or its value does not fit.
    """
    try:
        _command(_ParsingCLI, args)
    except _Parsed:
        return


def _command(cli: type[TrainingCLI], args: ArgsType) -> TrainingCLI:
    keep_freed_memory()
    with warnings.catch_warnings(), one_run(args if isinstance(args, list) else None):
        _ignore_known_warnings()
        try:
            return cli(
                model_class=TaskModule,
                datamodule_class=FrameFeatureDataModule,
                subclass_mode_model=True,
                save_config_callback=_SaveConfig,
                seed_everything_default=0,
                trainer_defaults={
                    "use_distributed_sampler": False,  # the batch plan deals to processes
                    "gradient_clip_val": 1.0,
                    "num_sanity_val_steps": 0,  # dev scores would count an untrained model
                    "log_every_n_steps": 10,
                    "enable_model_summary": False,
                },
                parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False},
                auto_configure_optimizers=False,
                load_from_checkpoint_support=False,
                args=args,
            )
        except argparse.ArgumentError as error:
            raise refusal(error) from None
        except MisconfigurationException as error:  # what Lightning refuses
            raise UserError(" ".join(str(error).split())) from None
        except UnicodeDecodeError:
            raise UserError("a file given with --config is not text; settings files are YAML") from None
        except ValueError as error:
            # jsonargparse wraps what a model's __init__ raises.
            wrapped = user_error_behind(error)
            if wrapped is None:
                raise
            raise wrapped from None


class TrainingCLI(LightningCLI):
    """What LightningCLI does, and: one `run_dir`, links from the data to the model, resuming, a final test."""

    def __init__(self, args: ArgsType, **options: Any) -> None:
        given = sys.argv[1:] if args is None else args
        self._verb = given[0] if isinstance(given, list) and given else ""
        super().__init__(args=args, **options)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there, where it is always all
        """The one that was asked for: the arguments of all four take longer to make than all that is read of them."""
        every = LightningCLI.subcommands()
        return {self._verb: every[self._verb]} if self._verb in every else every

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_argument(
            "--run_dir",
            type=str,
            default=DEFAULT_RUN_DIR,
            help="Where the run keeps its config, checkpoints, metrics.csv and results; one run, one directory.",
        )
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.save_last": True,
                "checkpoint.filename": "best",
                # Counted, a resumed run would write last-v1.ckpt, and the next one go on from last.ckpt again.
                "checkpoint.enable_version_counter": False,
            }
        )
        # Linked, not interpolated: an override of run_dir must reach each of these, or two runs share a folder.
        parser.link_arguments("run_dir", "trainer.default_root_dir")
        parser.link_arguments("run_dir", "checkpoint.dirpath", compute_fn=_checkpoint_dir)
        parser.link_arguments("seed_everything", "data.seed", compute_fn=int)
        parser.link_arguments("data.inputs", "model.init_args.inputs", apply_on="instantiate")

    def _parse_ckpt_path(self) -> None:
        """Nothing: a checkpoint's settings must agree with the given ones (`before_instantiate_classes`)."""

    @property
    def settings(self) -> Any:
        """The settings of the subcommand that runs."""
        return self.config[self.subcommand] if self.subcommand else self.config

    def before_instantiate_classes(self) -> None:
        settings = self.settings
        if settings.data.encoder is not None and settings.data.store == OPEN:
            settings.data.store = None  # the encoder stands in its place
        check_complete(_flatten(settings.as_dict()))
        self.run_dir = Path(settings.run_dir)
        if self.subcommand == "fit":
            if settings.trainer.max_epochs == 0:
                raise UserError("field 'trainer.max_epochs' is 0; there would be nothing to test, so give 1 or more")
            _check_run_dir(self.run_dir, self.parser_of_fit().dump(settings, skip_unset=False))
            last = self.run_dir / "checkpoints" / "last.ckpt"
            if settings.ckpt_path is None and last.is_file():
                rank_zero_info(f"{last} exists: going on where it stopped")
                settings.ckpt_path = str(last)
        if settings.ckpt_path in ("best", "last"):  # those of the run directory, not what Lightning would look for
            settings.ckpt_path = str(self.run_dir / "checkpoints" / f"{settings.ckpt_path}.ckpt")
        if settings.ckpt_path is not None:
            _check_same_settings(settings.ckpt_path, settings.model.get("init_args", {}), self.subcommand == "fit")
        settings.weights_only = True  # nothing in a checkpoint may run code
        for logger in _as_list(settings.trainer.get("logger")):
            if hasattr(logger, "init_args"):
                logger.init_args.save_dir = str(self.run_dir)
                if logger.class_path.endswith("WandbLogger"):
                    complete_settings(logger.init_args, self.run_dir, goes_on=self.subcommand == "fit")

    def after_instantiate_classes(self) -> None:
        if self.subcommand == "predict" and isinstance(self.model, Probe):
            raise UserError("a probe has nothing to predict; `test` writes its figures and transcripts")
        if self.subcommand == "test" and isinstance(self.model, Stage1VIB):
            return  # its rate can be tested on speech that nobody wrote down, too
        self.datamodule.check_targets(self.model.targets, _SPLITS.get(self.subcommand or ""))

    def parser_of_fit(self) -> LightningArgumentParser:
        """The parser of the `fit` subcommand."""
        return self._parser("fit")

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        loggers: list[Logger] = []
        if self.subcommand == "fit":
            loggers.append(MetricsFile(self.run_dir / "metrics.csv"))
        configured = _as_list(self._get(self.config_init, "trainer")["logger"])
        loggers += [logger for logger in configured if isinstance(logger, Logger)]
        try:
            trainer: Trainer = super().instantiate_trainer(logger=loggers or False, **kwargs)
        except ValueError as error:  # how Lightning refuses an accelerator or a strategy that it does not know
            raise UserError(" ".join(str(error).split())) from None
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if trainer.progress_bar_callback is not None:
            trainer.callbacks.remove(trainer.progress_bar_callback)  # type: ignore[attr-defined]
            trainer.callbacks.insert(0, RichProgressBar(refresh_rate=10, leave=False))  # type: ignore[attr-defined]
        trainer.callbacks.append(EndWandb())  # type: ignore[attr-defined]
        if self.subcommand == "predict":
            trainer.callbacks.append(PredictionWriter(self.run_dir / "predictions"))  # type: ignore[attr-defined]
        return trainer

    def after_fit(self) -> None:
        """Test the checkpoint that was best on dev; a probe keeps the best epoch of each head by itself."""
        best = None if isinstance(self.model, Probe) else "best"
        self.trainer.test(self.model, datamodule=self.datamodule, ckpt_path=best, verbose=False, weights_only=True)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


class _Parsed(Exception):
    """The arguments are taken."""


class _ParsingCLI(TrainingCLI):
    """Ends where the work would begin."""

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        super().parse_arguments(parser, args)
        raise _Parsed


class _SaveConfig(SaveConfigCallback):
    """config.yaml in the run directory, complete: `fit --config config.yaml` is the same run again. And
    provenance.json: with what code and data."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit" or self.already_saved or not trainer.is_global_zero:
            return
        folder = Path(trainer.default_root_dir)
        config = self.config.clone()
        config.ckpt_path = None
        for logger in _as_list(config.trainer.get("logger")):
            without_kept_id(logger, folder)
        write_text(folder / "config.yaml", self.parser.dump(config, skip_unset=False))
        write_json(folder / "provenance.json", facts(Path(config.data.manifest)))
        self.already_saved = True


def _checkpoint_dir(run_dir: str) -> str:
    return f"{run_dir}/checkpoints"


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _check_run_dir(run_dir: Path, settings: str) -> None:
    """Refuse a directory that holds a run with other settings."""
    file = run_dir / "config.yaml"
    if not file.is_file():
        return
    before, now = _flatten(yaml.safe_load(file.read_text())), _flatten(yaml.safe_load(settings))
    for name in sorted(before.keys() | now.keys()):
        if name.startswith(_MAY_CHANGE) or before.get(name) == now.get(name):
            continue
        raise UserError(
            f"run_dir {run_dir} holds a run with {name} {before.get(name)}, not {now.get(name)}; "
            "name another --run_dir, or delete this one"
        )


def _check_same_settings(checkpoint: str, given: Any, trains: bool) -> None:
    """A checkpoint is resumed or tested as what it is: a setting that it does not have is an error, not ignored.

    What it hid matters to training alone, and speech that it is tested on may have no such label.
    """
    trained = read_checkpoint(checkpoint).get("hyper_parameters", {})
    free = {"inputs", "stage1", "source", "given", "control"} | (set() if trains else {"hide"})
    for name, value in _flatten(given.as_dict() if hasattr(given, "as_dict") else dict(given)).items():
        if name in trained and name not in free and trained[name] != value:
            raise UserError(
                f"checkpoint {checkpoint} was trained with model.{name} {trained[name]}, but {value} is asked for; "
                "leave the setting out, or train anew without --ckpt_path"
            )


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _ignore_known_warnings() -> None:
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    # It says that Lightning starts SLURM jobs again; slurm.py does.
    logging.getLogger("lightning.pytorch.trainer.connectors.signal_connector").setLevel(logging.WARNING)
    for message in (
        "`isinstance.treespec, LeafSpec.` is deprecated",  # lightning 2.6 is older than torch 2.14
        "It is recommended to use `self.log",  # epoch figures are summed over processes before they are logged
        "Found .* module.s. in eval mode",  # the frozen stage is meant to be
        "The '.*_dataloader' does not have many workers",  # features come from memory: workers would only copy
        "Checkpoint directory .* exists and is not empty",  # that is how a run is resumed
        "The dirpath has changed",  # a checkpoint may be tested from any run directory
        "Couldn't infer the batch indices",  # a prediction carries the ids of its utterances
        "The number of training batches .* is smaller than the logging interval",  # true of small corpora
        "LightningCLI's args parameter is intended",  # the pipeline runs stages in its own process
        "The `srun` command is available on your system but is not used",  # one process needs none
    ):
        warnings.filterwarnings("ignore", message)


def main(arguments: Sequence[str]) -> None:
    """Entry of the command line."""
    train(list(arguments))

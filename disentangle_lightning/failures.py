"""What a training that failed leaves in its run directory: without it, a sweep would end as if all were well.

`wandb agent` exits with 0 whatever became of its runs, so each of them has to say so itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from disentangle_lightning.atomic import write_text
from disentangle_lightning.errors import StoppedBySignal, UserError
from disentangle_lightning.settings import DEFAULT_RUN_DIR
from disentangle_lightning.settings_files import read_yaml

FILE = "failure.json"
"""`error`, one line, and `arguments`, the command line; gone as soon as the training is started again."""


def note_failure(run_dir: Path, error: str, arguments: Sequence[str]) -> None:
    """Write the file, and the folder where there is none yet."""
    content = {"error": error, "arguments": list(arguments)}
    write_text(run_dir / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def forget_failure(run_dir: Path) -> None:
    """Take the file away."""
    (run_dir / FILE).unlink(missing_ok=True)


@contextmanager
def noted_in_sweep(arguments: Sequence[str]) -> Iterator[None]:
    """Around a training that a W&B agent has started, if one has: an exception is noted, and goes on its way.

    Args:
        arguments: the verb, and its arguments.
    """
    if arguments[0] != "fit" or "WANDB_SWEEP_ID" not in os.environ or os.environ.get("LOCAL_RANK", "0") != "0":
        yield
        return
    run_dir = run_dir_of(arguments)
    forget_failure(run_dir)
    try:
        yield
    except StoppedBySignal:
        raise  # W&B gives the run to the next agent, which goes on
    except Exception as error:
        text = str(error).partition("\n")[0]
        note_failure(run_dir, text if isinstance(error, UserError) else f"{type(error).__name__}: {text}", arguments)
        raise


def run_dir_of(arguments: Sequence[str]) -> Path:
    """The run directory that a training's arguments name, though some of them may be wrong."""
    found = DEFAULT_RUN_DIR
    words = [word for argument in arguments for word in argument.split("=", 1)]
    for flag, value in pairwise(words):
        if flag == "--run_dir":
            found = value
        elif flag == "--config":
            try:
                settings = read_yaml(value)
            except UserError:
                continue
            found = cast(dict[str, Any], OmegaConf.to_container(settings, resolve=False)).get("run_dir", found)
    try:
        return Path(OmegaConf.create({"run_dir": str(found)}).run_dir)
    except OmegaConfBaseException:
        return Path(OmegaConf.create({"run_dir": DEFAULT_RUN_DIR}).run_dir)

"""Several processes of one run: none outlives the others, and one speaks for all."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from lightning.pytorch.strategies import DDPStrategy, StrategyRegistry

from disentangle_lightning.errors import LostProcess, UserError

TIMEOUT = timedelta(minutes=10)
"""How long one process waits for another before it gives the run up. The longest that one rightly lets the others
wait is while it writes a checkpoint, or scores the transcripts of a test."""

_LOST = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Connection refused",
    "Broken pipe",
    "Timed out waiting",
    "Socket Timeout",
    "NCCL",
    "failed to recv",
    "Failed to recv",
    "wait timeout",
)
"""What torch's process groups (gloo, NCCL and their store) say when another process has gone or hangs."""

_POLL_SECONDS = 1.0
_GRACE_SECONDS = 3.0
"""How long a process lives on after the first one has gone: at the end of a run, they go one after the other."""

_SET_BY_LAUNCHER = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "WORLD_SIZE")


@contextmanager
def one_run(command: Sequence[str] | None) -> Iterator[None]:
    """Around a training that may launch further processes, each with the same command.

    Afterwards nothing is left of them in this process, so that it can launch others for another training.

    Args:
        command: the arguments after the program's name; None means those of this process.

    Raises:
        LostProcess: another process of the run has died, or did not answer for `TIMEOUT`.
    """
    _set_defaults()
    launched = os.environ.get("LOCAL_RANK", "0") != "0"
    launcher = os.getppid()
    if launched:
        threading.Thread(target=_follow, args=(launcher,), daemon=True, name="launcher-watch").start()
    arguments, environment = sys.argv, {name: os.environ.get(name) for name in _SET_BY_LAUNCHER}
    if command is not None and _is_own_program(arguments[0]):
        sys.argv = [arguments[0], *command]
    try:
        yield
    except UserError:
        if launched and _leaves_soon(launcher):
            raise SystemExit(2) from None  # the first process has said it
        raise
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LOST):
            raise
        if launched and os.getppid() == launcher and _leaves_soon(launcher):
            raise SystemExit(1) from None
        raise LostProcess(
            f"another process of this run died or did not answer ({str(error).splitlines()[0]}); what it said, if "
            "anything, stands above, and the same command goes on from the last checkpoint"
        ) from error
    finally:
        sys.argv = arguments
        for name, value in environment.items():
            if value is None:
                os.environ.pop(name, None)
        if dist.is_initialized() and "LOCAL_RANK" not in os.environ:
            dist.destroy_process_group()


def _set_defaults() -> None:
    """What `strategy: ddp` means here; name DDPStrategy by its class_path to set it otherwise."""
    StrategyRegistry.register(
        "ddp",
        DDPStrategy,
        "DDPStrategy with a shorter timeout, and without work that these models do not need",
        override=True,
        start_method="popen",
        timeout=TIMEOUT,
        broadcast_buffers=False,  # buffers are constants here
        gradient_as_bucket_view=True,  # no copy of the gradients
    )


def _follow(launcher: int) -> None:
    """End this process soon after the one that launched it, in whatever it is waiting."""
    while os.getppid() == launcher:
        time.sleep(_POLL_SECONDS)
    time.sleep(_GRACE_SECONDS)
    if os.environ.get("LOCAL_RANK") == "1":
        said = "error: the first process of this run died; the same command goes on from the last checkpoint"
        print(said, file=sys.stderr, flush=True)
    os._exit(1)


def _leaves_soon(launcher: int) -> bool:
    """Whether the first process ends by itself, as it does where what is wrong is wrong for all."""
    for _ in range(int(_GRACE_SECONDS / 0.1)):
        if os.getppid() != launcher:
            return True
        time.sleep(0.1)
    return False


def _is_own_program(path: str) -> bool:
    package = Path(__file__).parents[1]
    return Path(path).resolve() == package / "__main__.py" or Path(path).name == package.name

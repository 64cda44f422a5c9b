"""Programs that are killed: forked from a process that has imported everything and done nothing, and ended by SIGKILL.

Not from the process of the tests: torch and MKL keep books of the threads that they have had, which a fork copies in
whatever state they are in. A child with threads of its own then ends with "Invalid thread pool!", or spins for ever.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import disentangle_lightning.tasks.checkpoints as checkpoints
from disentangle_lightning.tasks.base import TaskModule, read_checkpoint
from disentangle_lightning.tasks.training import TrainingCLI, train

KILLED = -signal.SIGKILL

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["disentangle_lightning.tasks.training", "disentangle_lightning.cli", "transformers"])


def forked(work: Callable[[], object], log: Path, kill_after: float | None = None) -> int:
    """Run `work` in a child, which is killed after so many seconds, and with it all that it started.

    The child has the modules as they were imported: what is to be patched, `work` patches itself.

    Returns:
        its exit status: 0 done, 1 an exception, which is in `log`, and `KILLED`.
    """
    child = SERVER.Process(target=_child, args=(cloudpickle.dumps(work), dict(os.environ), str(log)))
    child.start()
    child.join(300 if kill_after is None else kill_after)
    if child.exitcode is None:
        assert child.pid is not None
        while not alive(child.pid) and child.is_alive():  # it has just been forked and has no group of its own yet
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
        assert kill_after is not None, f"hangs; see {log}"
    assert child.exitcode is not None
    return child.exitcode


def _child(work: bytes, environment: dict[str, str], log: str) -> None:
    os.setsid()
    os.environ.clear()
    os.environ |= environment
    torch.set_num_threads(1)
    status = 1
    with open(log, "a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            cloudpickle.loads(work)()
            status = 0
        except BaseException:
            traceback.print_exc()
    os._exit(status)


def forked_ranks(work: Callable[[], object], count: int, log: Path) -> list[int]:
    """Run `work` in so many processes of one run, the first the parent of the others, as Lightning launches them.

    Returns:
        the exit status of each, or `KILLED`; fails where one is still there half a minute after the first has ended.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ends = [log.with_name(f"{log.name}.{rank}") for rank in range(count)]
    group = log.with_name(f"{log.name}.group")

    def rank_of(rank: int) -> None:
        os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "WORLD_SIZE": str(count)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        status = 1
        try:
            status = int(work() or 0)  # type: ignore[call-overload]
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        ends[rank].write_text(str(status))
        sys.stderr.flush()
        os._exit(status)

    def first() -> None:
        group.write_text(str(os.getpid()))
        for rank in range(1, count):
            if not os.fork():
                rank_of(rank)
        rank_of(0)

    for end in ends:
        end.unlink(missing_ok=True)
    forked(first, log)
    deadline = time.monotonic() + 30
    while alive(int(group.read_text())):
        assert time.monotonic() < deadline, f"a process was left behind; see {log}"
        time.sleep(0.02)
    return [int(end.read_text()) if end.exists() else KILLED for end in ends]


def alive(group: int) -> bool:
    """Whether a process group has a process left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def die(*_: Any, **__: Any) -> None:
    """End this process as the kernel would, with no chance to put anything in order."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def fit(arguments: list[str], batches: Path, instant: str | None = None) -> TrainingCLI:
    """`train`, which adds each batch that it trains on to the file `batches`, and dies at an instant.

    Args:
        instant: `step EPOCH INDEX`, before that step; `logged EPOCH INDEX`, before its figures are logged;
            `pending EPOCH`, when the first checkpoint within that epoch is written, but not in its place yet;
            `validation EPOCH INDEX`; `half best.ckpt EPOCH`, in the middle of writing that file (or `last.ckpt`);
            `between EPOCH`, after best.ckpt and before last.ckpt; `test INDEX`; `results`, before summary.json.
    """
    kind, *place = (instant or "never").split()
    own_setup = TrainingCLI.instantiate_classes

    def instantiate(self: TrainingCLI) -> None:
        own_setup(self)
        patch(self.model, batches, kind, place)

    TrainingCLI.instantiate_classes = instantiate  # this process is a child of its own
    return train(["fit", *arguments])


def patch(module: TaskModule, batches: Path, kind: str, place: list[str]) -> None:
    trainer = lambda: module.trainer  # noqa: E731
    own = {name: getattr(module, name) for name in ("training_step", "validation_step", "test_step", "write_results")}

    def now(*parts: object) -> bool:
        return [str(part) for part in parts] == place

    def training_step(batch: Any, batch_idx: int) -> Any:
        epoch = trainer().current_epoch
        if kind == "step" and now(epoch, batch_idx):
            die()
        with batches.open("a") as file:
            file.write(json.dumps([epoch, batch_idx, batch.ids]) + "\n")
        if kind == "logged" and now(epoch, batch_idx):
            trainer().loggers[0].log_metrics = die
        return own["training_step"](batch, batch_idx)

    def validation_step(batch: Any, batch_idx: int) -> Any:
        if kind == "validation" and now(trainer().current_epoch, batch_idx):
            die()
        return own["validation_step"](batch, batch_idx)

    def test_step(batch: Any, batch_idx: int) -> Any:
        if kind == "test" and now(batch_idx):
            die()
        return own["test_step"](batch, batch_idx)

    def save(own_save: Any, content: Any, file: Any) -> None:
        name, epoch = Path(file.name).name.removesuffix(".tmp"), trainer().current_epoch
        own_save(content, file)
        if kind == "half" and now(name, epoch):
            file.flush()
            os.ftruncate(file.fileno(), file.tell() // 2)
            die()
        if name == "pending.ckpt" and kind == "pending" and now(epoch):
            trainer().loggers[0].log_metrics = die
            module.on_train_batch_start = die

    def save_last(own_save: Any, callback: Any, *arguments: Any) -> None:
        if kind == "between" and now(trainer().current_epoch):
            die()
        own_save(callback, *arguments)

    module.training_step, module.validation_step, module.test_step = training_step, validation_step, test_step
    if kind == "results":
        module.write_results = die
    checkpoints.torch = _Torch(partial(save, torch.save))
    ModelCheckpoint._save_last_checkpoint = _bound(save_last, ModelCheckpoint._save_last_checkpoint)


class _Torch:
    """The module, with a `save` of its own."""

    def __init__(self, save: Any) -> None:
        self.save = save

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def _bound(function: Any, own: Any) -> Any:
    return lambda self, *arguments: function(own, self, *arguments)


def dealt(batches: Path) -> dict[tuple[int, int], list[str]]:
    """The ids of each batch that was trained on, by epoch and index; one trained on again must be the same."""
    found: dict[tuple[int, int], list[str]] = {}
    for line in batches.read_text().splitlines():
        epoch, index, ids = json.loads(line)
        assert found.setdefault((epoch, index), ids) == ids, f"another batch {index} in epoch {epoch}"
    return found


def assert_same_run(one: Path, other: Path) -> None:
    """Bitwise the same weights in both checkpoints, and letter by letter the same figures."""
    assert {f.name for f in one.rglob("*")} == {f.name for f in other.rglob("*")}
    for name in ("best.ckpt", "last.ckpt"):
        ours, theirs = (read_checkpoint(folder / "checkpoints" / name) for folder in (one, other))
        assert_same(ours["state_dict"], theirs["state_dict"], name)
        assert_same(ours["optimizer_states"], theirs["optimizer_states"], name)
        assert_same(ours.get("best_heads"), theirs.get("best_heads"), name)
        assert ours["epoch"] == theirs["epoch"]
        assert ours["global_step"] == theirs["global_step"]
        scores = [[c["best_model_score"] for c in file["callbacks"].values()] for file in (ours, theirs)]
        assert scores[0] == scores[1]
    for file in one.iterdir():
        if file.suffix in (".csv", ".json"):
            assert (other / file.name).read_text() == file.read_text(), file.name


def assert_same(one: Any, other: Any, where: str) -> None:
    """Equal to the last bit, whatever they are made of."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for name in one:
            assert_same(one[name], other[name], f"{where}.{name}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for i, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}.{i}")
    else:
        assert one == other, where

"""What holds for every test: one torch thread, and nothing left behind."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)

IGNORED_WARNINGS = (
    # lightning 2.6 is older than torch 2.14, whose name for a leaf it does not know yet.
    r"ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    # lightning 2.6 calls jsonargparse by names that go away in its version 5; our bound is below it.
    r"ignore:\s*(By default only one Jsonargparse|``instantiate_classes`` was deprecated)",
    # A stage that is frozen inside another module is meant to be in evaluation mode.
    r"ignore:Found .* module.s. in eval mode",
)


def pytest_configure(config: pytest.Config) -> None:
    for ignored in IGNORED_WARNINGS:
        config.addinivalue_line("filterwarnings", ignored)


SET_BY_LIBRARIES = {
    "CRC32C_SW_MODE",  # tensorboard's file writer, imported by lightning
    "CUDA_DEVICE_ORDER",  # lightning, wherever a GPU is trained on
    "CUDA_MODULE_LOADING",  # torch, at the first look for a GPU
    "KMP_DUPLICATE_LIB_OK",  # OpenMP, when scikit-learn loads beside torch
    "KMP_INIT_AT_FORK",
    "PL_GLOBAL_SEED",  # lightning's seed_everything: read by worker processes, overwritten by the next seed
    "PL_SEED_WORKERS",
    "TORCHINDUCTOR_CACHE_DIR",  # torch's compiler, which transformers imports
    "TOKENIZERS_PARALLELISM",  # wandb and transformers, before they fork
}
"""Environment variables that an import or a call sets for the whole process; they are put back, but are no leak."""

GRACE_SECONDS = 10.0
"""How long a thread that is on its way out may take on a busy machine."""


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves environment variables, threads that outlive the program, or a process group."""
    environment = dict(os.environ)
    threads = set(threading.enumerate())
    yield
    changed = {
        name
        for name in environment.keys() | os.environ.keys()
        if environment.get(name) != os.environ.get(name) and name != "PYTEST_CURRENT_TEST"
    }
    for name in changed:
        if name in environment:
            os.environ[name] = environment[name]
        else:
            del os.environ[name]
    assert changed <= SET_BY_LIBRARIES, f"environment variables were changed: {sorted(changed - SET_BY_LIBRARIES)}"

    started = [thread for thread in threading.enumerate() if thread not in threads and not thread.daemon]
    if started:
        gc.collect()  # transformers drops its pool of loading threads without waiting for them to end
    for thread in started:
        thread.join(GRACE_SECONDS)
    started = [thread for thread in started if thread.is_alive()]
    assert not started, f"threads are still running: {started}"

    grouped = torch.distributed.is_available() and torch.distributed.is_initialized()
    if grouped:
        torch.distributed.destroy_process_group()
    assert not grouped, "a process group was left initialised"

"""Where a run's figures come from: command, code, versions, data, time."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = (
    "disentangle-lightning", "torch", "torchaudio", "lightning", "transformers", "torchmetrics", "numpy", "soundfile",
    "jiwer", "scikit-learn",
)  # fmt: skip
"""What figures depend on."""


def provenance(run_dir: Path, started: datetime, seconds: dict[str, float]) -> dict[str, Any]:
    """The content of provenance.json so far; what an earlier, interrupted run wrote of its steps is kept.

    Args:
        run_dir: the run directory, with manifest and feature store.
        started: when this run began.
        seconds: wall-clock time of each step that this run did.
    """
    file = run_dir / "provenance.json"
    before = json.loads(file.read_text()) if file.is_file() else {}
    header = run_dir / "features" / "header.json"
    return facts(run_dir / "manifest.jsonl") | {
        "encoder": json.loads(header.read_text())["encoder"] if header.is_file() else None,
        "seconds": before.get("seconds", {}) | seconds,
        "started": before.get("started", started.isoformat(timespec="seconds")),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def facts(manifest: Path) -> dict[str, Any]:
    """What a figure depends on beside its settings: command, versions, code, machine, and the manifest's SHA-256."""
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "command": shlex.join(["python", "-m", "disentangle_lightning", *sys.argv[1:]]),
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES},
        "git": git_state(),
        "machine": ", ".join([f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores", *gpus]),
        "manifest_sha256": hashlib.sha256(manifest.read_bytes()).hexdigest(),
    }


@functools.cache
def git_state() -> str | None:
    """The commit of the package's checkout, with `+changes` where files differ from it; None outside a checkout.

    Asked once: what counts is the code that was imported.
    """
    folder = Path(__file__).parent
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(folder, "status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"

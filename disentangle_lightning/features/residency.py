"""Where features are kept while they are trained on: on the accelerator, in memory, or in their files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import torch

from disentangle_lightning.errors import UserError

Place = Literal["disk", "host", "device"]
Residency = Literal["auto", "disk", "host", "device"]

_HOST_SHARE, _DEVICE_SHARE = 4, 2
"""Features may take a quarter of what is free in memory, half of it on a device: there a training needs the rest."""


def check_residency(wanted: str) -> None:
    """Refuse what is no setting.

    Raises:
        UserError: naming those that are.
    """
    if wanted not in get_args(Residency):
        raise UserError(f"residency is '{wanted}'; expected one of {', '.join(get_args(Residency))}")


def choose_residency(wanted: str, size: int, device: torch.device, processes: int) -> tuple[Place, str]:
    """Where features of `size` bytes go, and that in words.

    On the device if they take less than half of its free memory, else in memory if all processes together take less
    than a quarter of that, else they stay in their files. Each process decides for itself; batches are the same
    wherever they come from.

    Args:
        wanted: `auto`, or a place.
        size: bytes that one process keeps.
        device: what the trainer computes on.
        processes: how many on this machine keep them.

    Raises:
        UserError: there is no accelerator.
    """
    if wanted == "device" and device.type == "cpu":
        raise UserError("residency is 'device', but this run has no accelerator; use host, disk or auto")
    on_device, in_memory = free_device_memory(device), free_memory()
    what = f"features ({size / 1e9:.1f} GB)"
    if wanted == "device" or (wanted == "auto" and size * _DEVICE_SHARE < on_device):
        return "device", f"{what} are read into the memory of {device}, of which {on_device / 1e9:.1f} GB are free"
    if wanted == "host" or (wanted == "auto" and size * processes * _HOST_SHARE < in_memory):
        return "host", f"{what} are read into memory, of which {in_memory / 1e9:.1f} GB are free"
    return "disk", f"{what} stay on disk; {in_memory / 1e9:.1f} GB of memory are free"


def room_to_keep(device: torch.device, processes: int) -> int:
    """Bytes that this process may fill, by the same shares, with what it computes on a device and keeps there."""
    if device.type == "cpu":
        return free_memory() // (processes * _HOST_SHARE)
    return free_device_memory(device) // _DEVICE_SHARE


def free_device_memory(device: torch.device) -> int:
    """Bytes that this process may still use on a CUDA device; 0 on any other."""
    if device.type != "cuda":
        return 0
    free, _ = torch.cuda.mem_get_info(device)
    # What PyTorch holds without using it is free too.
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_memory() -> int:
    """Bytes that this process may still use: what the machine has free, or what its control group leaves.

    Cached files do not count as free here; features that are cached are as fast to read from their files.
    """
    if "SC_AVPHYS_PAGES" not in os.sysconf_names:  # macOS
        return 0
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    group = Path("/sys/fs/cgroup")
    try:
        limit = int((group / "memory.max").read_text())  # the word "max" where there is no limit
        used = int((group / "memory.current").read_text())
    except (OSError, ValueError):
        return free
    return min(free, limit - used)

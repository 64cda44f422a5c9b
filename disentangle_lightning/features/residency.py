"""Whether features fit in memory."""

from __future__ import annotations

import os
from pathlib import Path


def fits_in_memory(size: int, processes: int) -> bool:
    """Whether `size` bytes in each of `processes` take less than a quarter of the free memory altogether."""
    return size * processes * 4 < free_memory()


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

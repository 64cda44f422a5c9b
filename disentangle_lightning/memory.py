"""Freed memory is kept for the next step instead of being handed back to the kernel."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Let this process reuse the big blocks that it frees; returns whether the C library understood.

    A step allocates and frees tensors of tens of megabytes. By default glibc maps and unmaps each of them, and the
    kernel clears every page anew when it is first touched: a copy into fresh memory ran at 2.3 GB/s, into memory used
    before at 16 GB/s (experiments/benchmarks/memory.py). The price is that the process keeps its largest extent.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # A 32-bit int each, as mallopt takes them; another C library may have no such function, or refuse.
    return mallopt is not None and bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))

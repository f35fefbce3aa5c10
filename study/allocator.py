"""How the C library keeps memory: large maps are allocated and freed at every step."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's mallopt


def keep_freed_memory() -> None:
    """Let this process keep what it freed instead of handing it back to the kernel and asking again.

    Without it the kernel clears fresh pages for every large map: on one thread a frozen backbone at 512x512 then spends
    most of its time in the kernel (282 against 101 ms an image). Does nothing where the C library is not glibc.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
        libc.mallopt(_TOP_PAD, 1 << 26)

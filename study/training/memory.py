"""Tunes how the C library keeps memory (every step allocates and frees large maps), and measures a training's peak."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # glibc's mallopt
_PROCESS = Path("/proc/self")


def keep_freed_memory() -> None:
    """Let this process keep freed memory instead of returning it to the kernel and requesting it again.

    Without it the kernel clears fresh pages for every large map: on one thread, a frozen backbone at 512x512 then
    spends most of its time in the kernel (282 instead of 101 ms per image). Does nothing if the C library is not glibc.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_MMAP_MAX, 0)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)
        libc.mallopt(_TOP_PAD, 1 << 26)


def return_freed_memory() -> None:
    """Return freed memory to the kernel. Small results that stay between large maps that go would otherwise keep the
    heap growing, by one map an image. Does nothing if the C library is not glibc."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def forget_peak() -> None:
    """Restart the measurement of ``peak_mb``, without memory that earlier trainings of this process freed.

    If the kernel has no such counter, the peak stays that of the whole process.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return


def peak_mb() -> float:
    """The peak resident memory (MiB) of this process since ``forget_peak``, including torch itself."""
    try:
        lines = (_PROCESS / "status").read_text().splitlines()
    except OSError:
        lines = []
    told = next((line for line in lines if line.startswith("VmHWM:")), None)
    if told is not None:
        return int(told.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)

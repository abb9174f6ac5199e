"""What the C library does with memory that nobody uses any more. On others than glibc, nothing of this is done."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable
from typing import Final

__all__ = ["give_back", "keep_little"]

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Source: glibc, malloc.h; mallopt(3)."""

_LARGE: Final = 128 * 1024
"""Bytes, with which glibc begins as well."""


@functools.cache
def _libc(name: str) -> Callable[..., int] | None:
    return getattr(ctypes.CDLL(None), name, None)


def keep_little() -> bool:
    """Have large blocks go back to the operating system as soon as they are free, and the free end of a heap as well.

    glibc does so until the first large block is freed, and keeps room for others like that from then on. The lists of a
    thousand jobs in flight are such blocks, of some megabytes, which are needed for a moment every few seconds.

    Returns:
        False where that is not to be had, or where the environment says what is wanted (mallopt(3)).
    """
    mallopt = _libc("mallopt")
    said = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"
    if mallopt is None or any(name in os.environ for name in said):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE) and mallopt(_M_TRIM_THRESHOLD, _LARGE))


def give_back() -> bool:
    """Give back what is free amid what is in use; takes about a millisecond.

    Returns:
        False where there was none, or where that is not to be had. Source: malloc_trim(3).
    """
    trim = _libc("malloc_trim")
    return bool(trim and trim(0))

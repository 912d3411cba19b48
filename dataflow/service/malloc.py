"""The memory policy of glibc: large blocks go back to the system as soon as they are free.

By itself glibc learns from the first large block that is freed to keep such blocks, up to 32 MB.
That suits programs that need them again and again. Here they are columns of indexes that grow, and
what a start needs once: kept, they would be a third of all memory.
"""

import ctypes

_LARGE_BYTES = 1024 * 1024
_KEPT_BYTES = 64 * 1024 * 1024
"""At the end of the heap, for the small blocks of the next batch."""
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # from <malloc.h>

_libc = ctypes.CDLL(None)
_is_glibc = hasattr(_libc, "gnu_get_libc_version")  # musl and macOS do otherwise


def tune() -> None:
    """Have large blocks given back. Once, before there are any."""
    if _is_glibc:
        _libc.mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        _libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def give_back() -> None:
    """Return what else is free, which the start has left behind; takes milliseconds."""
    if _is_glibc:
        _libc.malloc_trim(0)

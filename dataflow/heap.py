"""Memory that only a start has needed goes back to the system.

glibc keeps what is freed in its arenas. Building the indexes of many remembered ids takes twice
what they need in the end, in pieces that are too small to be given back by themselves.
"""

import ctypes

_malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl and macOS have none


def give_back() -> None:
    """Return what is free; takes milliseconds."""
    if _malloc_trim is not None:
        _malloc_trim(0)

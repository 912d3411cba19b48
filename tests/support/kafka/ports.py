"""Ports that stay ours while nobody listens on them."""

import atexit
import random
import socket
import threading

HOST = "127.0.0.1"
# Below the range that Linux takes the ports of outgoing connections from. Out of that range, a
# client that reconnects to a stopped broker can be given the broker's own port, and keep it.
CANDIDATES = range(20_000, 32_000)
SLICE = 500
"""The number of ports that each process has for itself: it may not listen yet on one that it
got."""

_lock = threading.Lock()
_mine: list[int] = []
"""Ours, the one that was given out longest ago first."""
_claims: list[socket.socket] = []
"""Closed at the very end only: they are ours for as long as this process lives."""


def free(count: int, *, for_good: bool = False) -> list[int]:
    """Return that many different ports that nothing listens on.

    Args:
        count: How many.
        for_good: Never give them to another: their listener may be down for a while.
    """
    with _lock:
        if not _mine:
            mine = _slice()
            _mine.extend(random.sample(mine, len(mine)))
        found: list[int] = []
        for _ in range(len(_mine)):
            port = _mine.pop(0)
            if is_free(port):
                found.append(port)
            if not (for_good and port in found):
                _mine.append(port)
            if len(found) == count:
                return found
    raise OSError(f"no {count} ports of {min(_mine)} to {max(_mine)} are free")


def _slice() -> range:
    """Return the first part of the candidates that no other process here has for itself."""
    for start in range(CANDIDATES.start, CANDIDATES.stop, SLICE):
        # The holder of its first port has the slice, wherever its temporary files are. Without
        # SO_REUSEADDR only one can.
        claim = socket.socket()
        try:
            claim.bind((HOST, start))
        except OSError:
            claim.close()
        else:
            _claims.append(claim)
            atexit.register(claim.close)
            return range(start + 1, start + SLICE)
    raise OSError("too many processes at once ask for ports")


def is_free(port: int) -> bool:
    """Return whether a server could listen on it now."""
    with socket.socket() as probe:
        # As Java does: connections of the previous run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Return whether a server takes connections on it."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0

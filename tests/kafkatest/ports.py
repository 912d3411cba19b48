"""Ports that stay ours while nobody listens on them."""

import random
import socket
import threading

HOST = "127.0.0.1"
# Below the range that Linux takes the ports of outgoing connections from. Out of that range, a
# client that reconnects to a stopped broker can be given the broker's own port, and keep it.
CANDIDATES = range(20_000, 32_000)
_given: set[int] = set()
"""Given out before: whoever got one may not listen on it yet, or be about to come back to it."""
_lock = threading.Lock()


def free(count: int) -> list[int]:
    """Return that many different ports that nothing listens on, and that nobody else was given."""
    found: set[int] = set()
    with _lock:
        if len(_given) > len(CANDIDATES) // 2:
            _given.clear()
        while len(found) < count:
            port = random.choice(CANDIDATES)
            if port not in _given and is_free(port):
                found.add(port)
                _given.add(port)
    return list(found)


def is_free(port: int) -> bool:
    """Whether a server could listen on it now."""
    with socket.socket() as probe:
        # As Java does: connections of the previous run that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def listens(port: int) -> bool:
    """Whether a server takes connections on it."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0

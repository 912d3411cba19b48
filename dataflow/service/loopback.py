"""A socket filter: a listening socket of this process answers on the loopback interface only.

For the engine's web server: it binds to all interfaces, and has no option for another address. The
socket is this process's all the same, so it gets a filter: the kernel drops what is not addressed
to 127.0.0.0/8 before there is a connection, as a firewall does, and Linux needs no privileges for
that. The other way, to intercept the engine's call of `bind`, would change a library's code.

Between the engine's `listen` and the filter a few milliseconds pass, in which it is open.
"""

import ctypes
import os
import socket
import stat
import struct
import sys
import threading
import time
from pathlib import Path

import structlog

_log = structlog.get_logger()

_SO_ATTACH_FILTER = 26
_DESTINATION = 0xFFF00000 + 16
"""In a filter's addressing: the network header (SKF_NET_OFF), and there the address sent to."""
_LOAD_BYTE, _JUMP_IF_EQUAL, _RETURN = 0x30, 0x15, 0x06
_FILTER = (
    (_LOAD_BYTE, 0, 0, _DESTINATION),
    (_JUMP_IF_EQUAL, 0, 1, 127),
    (_RETURN, 0, 0, 0xFFFFFFFF),  # the whole packet
    (_RETURN, 0, 0, 0),
)
_LISTENS_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.005


def confine_when_it_listens(port: int) -> None:
    """Confine the socket that will listen on the IPv4 port, from a thread; warn if that fails."""
    threading.Thread(target=_confine_soon, args=[port], name="loopback", daemon=True).start()


def confine(port: int) -> bool:
    """Confine the socket of this process that listens on the IPv4 port; False if there is none.

    Raises:
        OSError: This system has no such filters.
    """
    listener = _listener(port)
    if listener is None:
        return False
    with listener:
        code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in _FILTER))
        program = struct.pack("HL", len(_FILTER), ctypes.addressof(code))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    return True


def _confine_soon(port: int) -> None:
    until = time.monotonic() + _LISTENS_WITHIN_S
    reason = f"nothing listens on port {port}"
    while time.monotonic() < until:
        try:
            if confine(port):
                _log.info(
                    "the engine's web server answers on the loopback interface only", port=port
                )
                return
        except OSError as error:
            reason = str(error)
            break
        time.sleep(_LOOK_EVERY_S)
    _log.warning(
        "the engine's own metrics port may be open to other machines;"
        " BYTEWAX_DATAFLOW_API_ENABLED=false closes it",
        port=port,
        reason=reason,
    )


def _listener(port: int) -> socket.socket | None:
    """Return a duplicate of the socket: what is set on it is set on the original."""
    if sys.platform != "linux":
        raise OSError("socket filters are Linux's")
    for entry in Path("/proc/self/fd").iterdir():
        try:
            duplicate = os.dup(int(entry.name))
        except OSError:
            continue  # closed meanwhile
        if not stat.S_ISSOCK(os.fstat(duplicate).st_mode):
            os.close(duplicate)
            continue
        found = socket.socket(fileno=duplicate)
        if _listens(found, port):
            return found
        found.close()
    return None


def _listens(found: socket.socket, port: int) -> bool:
    return (
        found.family == socket.AF_INET
        and found.type == socket.SOCK_STREAM
        and found.getsockname()[1] == port
        and found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    )

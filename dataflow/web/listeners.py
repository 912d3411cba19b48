"""The sockets of the HTTP side: taken at the start, or refused with the variable to change."""

import errno
import socket

from dataflow.errors import StartRefusedError

BACKLOG = 256
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL})
"""The errors of a machine that has none: not compiled in, switched off at boot, or switched off."""


def listen(host: str | None, port: int, variable: str) -> socket.socket:
    """Return a socket that listens; without `host` on every address, of IPv6 and IPv4 alike.

    Raises:
        StartRefusedError: The port is taken or not ours to use.
    """
    if host is None:
        try:
            return _listener("::", port)
        except (OSError, OverflowError) as error:
            if not isinstance(error, OSError) or error.errno not in _NO_IPV6:
                raise StartRefusedError(_problem(error, "::", port, variable)) from error
        host = "0.0.0.0"  # noqa: S104  (probes and scrapes come from outside the container)
    try:
        return _listener(host, port)
    except (OSError, OverflowError) as error:
        raise StartRefusedError(_problem(error, host, port, variable)) from error


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    if host == "::":
        # IPv4 as well, whatever the machine's default is.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    # A restart must not wait for the last run's connections to time out.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        # Now, not in the thread: of two processes that bind, only one may listen.
        listener.listen(BACKLOG)
    except (OSError, OverflowError):
        listener.close()
        raise
    return listener


def _problem(error: OSError | OverflowError, host: str, port: int, variable: str) -> str:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return (
            f"{variable}: port {port} is already in use (by another process, or by our other "
            f"port); stop its owner, or set {variable} to a free port"
        )
    if code == errno.EACCES:
        return f"{variable}: port {port} needs privileges; set {variable} to 1024 or above"
    return (
        f"{variable}: cannot listen on {host} port {port} ({error}); "
        f"set {variable} or HOST to another"
    )

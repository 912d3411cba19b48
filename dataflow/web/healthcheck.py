"""A check that the process of this container is alive: `payments healthcheck`, exit code 0 or 1.

The image's health check, so that it needs neither a shell nor curl. What is asked is `/live`.
"""

import argparse
import http.client
from collections.abc import Mapping, Sequence

_EPILOG = """\
examples:
  payments healthcheck
  PORT=3001 payments healthcheck

exit code: 0 when it is alive, 1 when it is not or does not answer, 2 for a wrong argument
"""
_TIMEOUT_S = 4.0
_PORT = 3000
_ALL = ("", "0.0.0.0", "::")  # noqa: S104  (the addresses that include 127.0.0.1)


def alive(environ: Mapping[str, str]) -> bool:
    """Ask `/live` on the `HOST` and `PORT` of the environment; no answer counts as a no."""
    port = int(environ.get("PORT", "").strip() or _PORT)
    host = environ.get("HOST", "").strip()
    if host in _ALL:
        host = "127.0.0.1"
    # http.client, not urllib: it does not go through a proxy named in the environment.
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/live")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Exit code 0 if the process is alive, 1 if not."""
    parser = argparse.ArgumentParser(
        prog="payments healthcheck",
        description="Ask /live of the process on this machine; PORT and HOST say where it listens.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args(argv)
    return 0 if alive(environ) else 1

"""`python -m dataflow.web.healthcheck`: 0 if this container's process is alive, else 1.

The image's health check, so that it needs neither a shell nor curl. What is asked is `/live`.
"""

import http.client
import os
import sys
from collections.abc import Mapping

_TIMEOUT_S = 4.0
_PORT = 3000
_ALL = ("", "0.0.0.0", "::")  # noqa: S104  (the addresses that include 127.0.0.1)


def alive(environ: Mapping[str, str]) -> bool:
    """Ask `/live` on the `HOST` and `PORT` of the environment; no answer is a no."""
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


if __name__ == "__main__":
    sys.exit(0 if alive(os.environ) else 1)

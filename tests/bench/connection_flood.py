"""A connection flood at the sidecar's ports, in its own process: its cost is not the flow's.

`python -m bench.connection_flood PORT METRICS_PORT` holds connections that send only half a request
(what is known as slow loris), scrapes `/metrics` a thousand times at once, again and again until
its standard input ends, and prints how many scrapes got which status.
"""

import http.client
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from flow_process import ROOT

from bench.contenders import TESTS

SILENT = 300
"""Connections to each port."""
SCRAPES = 1_000
"""At once."""
_PAUSE_S = 1.0
"""A thousand Prometheus servers would come every 15 s."""


@contextmanager
def connection_flood(port: int, metrics_port: int) -> Iterator[Counter[int]]:
    """Hold and scrape meanwhile; once it is over, how many scrapes got which status."""
    command = [sys.executable, "-m", "bench.connection_flood", str(port), str(metrics_port)]
    environ = {"PYTHONPATH": f"{TESTS}:{TESTS / 'integration'}:{ROOT}"}
    found: Counter[int] = Counter()
    with subprocess.Popen(
        command, env=environ, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # the connections are there
        yield found
        answers, _ = process.communicate()
        for line in answers.splitlines():
            status, count = line.split()
            found[int(status)] += int(count)


def main() -> None:
    """Run the flood."""
    port, metrics_port = map(int, sys.argv[1:])
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=[over], daemon=True).start()
    found: Counter[int] = Counter()
    with ExitStack() as held, ThreadPoolExecutor(SCRAPES) as pool:
        for each in (port, metrics_port):
            for _ in range(SILENT):
                silent = socket.create_connection(("127.0.0.1", each), timeout=30)
                held.enter_context(silent).sendall(b"GET /live HTTP/1.1\r\nHost: ")
        print(flush=True)
        while not over.is_set():
            found.update(pool.map(lambda _: _scrape(metrics_port), range(SCRAPES)))
            over.wait(_PAUSE_S)
    for status, count in found.items():
        print(status, count)


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


def _scrape(port: int) -> int:
    """Return the status; 0 when there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return answer.status
    finally:
        connection.close()


if __name__ == "__main__":
    main()

"""A connection flood at the sidecar's ports, in its own process: its cost is not the flow's.

`python -m tests.bench.connection_flood PORT METRICS_PORT` holds connections that send only half a
request (what is known as slow loris), scrapes `/metrics` a thousand times at once, again and again
until its standard input ends, and prints how many scrapes got which status.
"""

import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from tests import ROOT

SILENT = 300
"""Connections to each port."""
SCRAPES = 1_000
"""At once."""
_TIMEOUT_S = 60.0
_PAUSE_S = 1.0
"""A thousand Prometheus servers would come every 15 s."""


@contextmanager
def connection_flood(port: int, metrics_port: int) -> Iterator[Counter[int]]:
    """Hold and scrape meanwhile; once it is over, how many scrapes got which status."""
    command = [sys.executable, "-m", "tests.bench.connection_flood", str(port), str(metrics_port)]
    environ = {"PYTHONPATH": str(ROOT)}
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


@contextmanager
def silent_connections(*ports: int) -> Iterator[None]:
    """Hold connections to each port on which only half a request was sent."""
    with ExitStack() as held:
        for port in ports:
            for _ in range(SILENT):
                silent = socket.create_connection(("127.0.0.1", port), timeout=30)
                held.enter_context(silent).sendall(b"GET /live HTTP/1.1\r\nHost: ")
        yield


def statuses(port: int, path: str, count: int) -> Counter[int]:
    """Send so many requests at once; return how many got which status, 0 if there was no answer.

    Each is sent as soon as its connection is there, and no answer is read before all are sent. The
    sidecar rightly drops a connection that is silent for a second; a thousand threads, or one event
    loop, would leave some silent for so long on a busy machine.
    """
    head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with ExitStack() as stack:
        waiting = []
        for _ in range(count):
            connection = socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_S)
            with suppress(OSError):  # it is already dropped, as reading will show
                connection.sendall(head)
            waiting.append(stack.enter_context(connection))
        return Counter(map(_status, waiting))


def _status(connection: socket.socket) -> int:
    answer = b""
    try:
        while received := connection.recv(1 << 16):
            answer += received
    except OSError:
        return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


def main() -> None:
    """Run the flood."""
    port, metrics_port = map(int, sys.argv[1:])
    over = threading.Event()
    threading.Thread(target=_wait_for_the_end, args=[over], daemon=True).start()
    found: Counter[int] = Counter()
    with silent_connections(port, metrics_port):
        print(flush=True)
        while not over.is_set():
            found.update(statuses(metrics_port, "/metrics", SCRAPES))
            over.wait(_PAUSE_S)
    for status, count in found.items():
        print(status, count)


def _wait_for_the_end(over: threading.Event) -> None:
    sys.stdin.read()
    over.set()


if __name__ == "__main__":
    main()

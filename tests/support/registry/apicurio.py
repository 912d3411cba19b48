"""One registry for a whole run of the tests, by whichever process needs it first."""

import fcntl
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from tests.support.kafka import ports
from tests.support.kafka.distribution import java
from tests.support.kafka.jvm import Jvm
from tests.support.registry import distribution

START_TIMEOUT_S = 200.0
"""A start takes two seconds of a processor, and ten the first time; a busy machine may give it a
twentieth of one."""
_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx192m", "-Xss512k")
_API = "/apis/ccompat/v7"

# Detached from the process that starts it, since that may end before others of the same run; ends
# the JVM once the run is over, however it ends.
_KEEPER = """
import os, signal, subprocess, sys, time
if os.fork():
    os._exit(0)
os.setpgid(0, 0)
run, output, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
with open(output, "ab") as out:
    jvm = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
while jvm.poll() is None and os.path.exists(f"/proc/{run}"):
    time.sleep(0.3)
jvm.kill()
"""


class RegistryError(Exception):
    """The registry did not start; the message has the end of its log."""


class Registry:
    """The registry that a run shares; its tests use subjects that no other has.

    Attributes:
        port: Where it listens.
        url: Its address, as SCHEMA_REGISTRY_URL.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.url = self.url_at(port)
        self.client = SchemaRegistryClient({"url": self.url, "timeout": 60})

    @staticmethod
    def url_at(port: int) -> str:
        """Return the address if it is reached by another port."""
        return f"http://{ports.HOST}:{port}{_API}"

    def register(self, schema: str, kind: str = "AVRO", subject: str | None = None) -> int:
        """Register a schema, in a subject of its own by default; return its id."""
        return int(self.client.register_schema(subject or uuid.uuid4().hex, Schema(schema, kind)))

    def close(self) -> None:
        """Close the connections to it; it goes on."""
        self.client.close()

    def answers(self) -> bool:
        """Return whether it is up."""
        try:
            self.client.get_schema_types()
        except Exception:  # noqa: BLE001  (whatever a server that is starting does)
            return False
        return True


def shared(directory: Path, environ: Mapping[str, str] = os.environ) -> Registry:
    """Return the registry of this run, which is started if it is not there.

    Args:
        directory: The temporary directory of the run, or of one of its processes.
        environ: Shows whether this is one of several processes.

    Raises:
        RegistryError: it does not come up.
        FetchError: it is not here yet, and cannot be fetched.
    """
    is_worker = "PYTEST_XDIST_WORKER" in environ
    run = os.getppid() if is_worker else os.getpid()
    common = directory.parent if is_worker else directory
    state, log = common / "registry.port", common / "registry.log"
    with (common / "registry.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not state.exists():
            [port] = ports.free(1, for_good=True)
            _start(port, run, log)
            state.write_text(str(port))
        return Registry(int(state.read_text()))


def prepare() -> None:
    """Fetch it, and keep its classes: once, before tests whose time is limited.

    Raises:
        RegistryError: it does not come up.
        FetchError: it cannot be fetched.
    """
    distribution.jar()
    archive = distribution.archive()
    if archive.exists():
        return
    with archive.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if archive.exists():
            return
        # Renamed only when it is complete: a JVM may look for it at any time.
        partial = archive.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        [port] = ports.free(1)
        log = archive.with_suffix(".log")
        jvm = Jvm(_command(port, f"-XX:ArchiveClassesAtExit={partial}"), log)
        try:
            _wait(port, log)
            jvm.terminate(START_TIMEOUT_S)
        finally:
            jvm.kill()
        if partial.exists():
            partial.rename(archive)


def _start(port: int, run: int, log: Path) -> None:
    archive = distribution.archive()
    command = _command(port, f"-XX:SharedArchiveFile={archive}" if archive.exists() else "")
    keeper = [sys.executable, "-I", "-S", "-c", _KEEPER, str(run), str(log), *command]
    subprocess.run(keeper, check=True, cwd=log.parent)
    _wait(port, log)


def _command(port: int, option: str) -> list[str]:
    properties = {
        "quarkus.http.host": ports.HOST,
        "quarkus.http.port": str(port),
        "quarkus.log.level": "WARN",
    }
    options = [*_OPTIONS, *filter(None, [option])]
    options += [f"-D{name}={value}" for name, value in properties.items()]
    return [java(), *options, "-jar", str(distribution.jar())]


def _wait(port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    with closing(Registry(port)) as registry:
        while not registry.answers():
            if time.monotonic() > deadline:
                tail = log.read_text(errors="replace")[-2000:]
                raise RegistryError(f"it is not up after {START_TIMEOUT_S:.0f} s:\n{tail}")
            time.sleep(0.1)

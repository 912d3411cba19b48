"""One Kafka broker of our own, which a test may stop, pause and kill."""

import atexit
import base64
import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

from confluent_kafka import KafkaException

from tests.support.kafka import ports
from tests.support.kafka.cluster import Cluster, java_command, run_java
from tests.support.kafka.jvm import Jvm

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
SESSION_S = 6.0
"""A broker that is silent for so long is taken for dead. A killed one may register again only after
that, and Kafka's 9 s would be most of a restart; in half of it a machine with too much to do may be
silent by chance, and every test of that moment finds partitions without a leader."""

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    # There is one broker. And few partitions where Kafka would make 50: their first user waits.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    # A transaction whose producer is gone is ended this soon after its timeout, not up to 10 s.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # Records with old timestamps are test data, not garbage.
    "log.retention.ms": "-1",
    # The default of Kafka 4.
    "log.message.timestamp.after.max.ms": "3600000",
    # 128 MB of the heap, otherwise.
    "log.cleaner.dedupe.buffer.size": "8388608",
    "broker.session.timeout.ms": f"{SESSION_S * 1000:.0f}",
    "broker.heartbeat.interval.ms": "1000",
    # Otherwise an idle controller writes a record twice a second, and the broker takes it in.
    "metadata.max.idle.interval.ms": "0",
}


_MEMORY = Path("/dev/shm")  # noqa: S108  (each directory in it is made by mkdtemp)
_ROOM_BYTES = 2 << 30
"""The brokers of a parallel run, with what the tests write to them, need less."""


class BrokerError(Exception):
    """The broker did not start; the message has the end of its log."""


class Listener(NamedTuple):
    """The listener that clients connect to: on `ports.HOST`, advertised as `host`.

    Attributes:
        port: Where it listens, and where clients are sent to come back to...
        told_port: ... unless that is another one, where a proxy passes them on.
        protocol: The security protocol, where the listener's name is not that already.
    """

    host: str
    port: int
    told_port: int | None = None
    protocol: str | None = None


class Broker(Cluster):
    """One Apache Kafka process, broker and controller in one, its data in a temporary directory.

    Stopping keeps data and ports for `restart`. Only `close`, or the end of this process, however
    it comes, gives them up. As a context manager it closes itself.

    Attributes:
        directory: Where its settings, logs and data are.
        listeners: Those for clients, by name; usually that of the security protocol.
        settings: What goes into `server.properties`, beside the listeners.
        in_memory: Whether its directory is in memory, where the machine has that.
    """

    in_memory: ClassVar[bool] = True

    def __init__(
        self, *, port: int | None, config: Mapping[str, str], java_options: Sequence[str]
    ) -> None:
        plain, self._controller_port = ports.free(2, for_good=True)
        self._port = port or plain
        super().__init__(f"{ports.HOST}:{self._port}")
        self._java_options = java_options
        self._jvm: Jvm | None = None
        self.directory = scratch(in_memory=self.in_memory)
        self.listeners = {"PLAINTEXT": Listener(ports.HOST, self._port)}
        self.settings = SETTINGS | {"log.dirs": str(self.directory / "data")} | dict(config)

    @classmethod
    def start(
        cls,
        *,
        port: int | None = None,
        config: Mapping[str, str] | None = None,
        java_options: Sequence[str] = ("-Xmx512m",),
    ) -> Self:
        """Start a new, empty broker and return when it answers.

        Args:
            port: Of the plaintext listener; by default one that is free.
            config: Broker settings, over those in `SETTINGS`.
            java_options: For its JVM, e.g. more memory.

        Raises:
            BrokerError: If it does not come up.
            FetchError: If Apache Kafka is not here yet and cannot be fetched.
        """
        broker = cls(port=port, config=config or {}, java_options=java_options)
        atexit.register(broker.close)
        try:
            broker._format()
            broker.restart()
        except BaseException:
            broker.close()
            raise
        return broker

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """Its process id; None while it is down. A paused broker has one."""
        running = self._jvm is not None and self._jvm.exit_code is None
        return self._jvm.pid if self._jvm is not None and running else None

    def stop(self) -> None:
        """Stop it in order, as an upgrade would; nothing when it is down."""
        if self._jvm is not None:
            self._jvm.terminate(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """Kill its process. What it has written survives, as the machine does."""
        if self._jvm is not None:
            self._jvm.kill()

    def pause(self) -> None:
        """Freeze it: connections stay open, and nothing answers.

        Its partitions have no leader for a moment after more than `SESSION_S`.
        """
        if self._jvm is not None:
            self._jvm.send(signal.SIGSTOP)

    def resume(self) -> None:
        """Undo `pause`; nothing when it is not paused."""
        if self._jvm is not None:
            self._jvm.send(signal.SIGCONT)

    def restart(self) -> None:
        """Start it on the same data and ports and return when it answers; stop it first if it runs.

        Takes some seconds longer after a `kill`: the controller waits until the session of the
        killed broker has expired.
        """
        self.stop()
        command = java_command(
            "kafka.Kafka", [str(self._properties)], str(self._log), self._java_options
        )
        self._jvm = Jvm(command, self._console)
        self._wait_until_ready(self._jvm)

    def heal(self) -> None:
        """Return when it runs and answers, whatever was done to it before."""
        if self._jvm is None or self.pid is None:
            self.restart()
        else:
            self.resume()
            self._wait_until_ready(self._jvm)

    def close(self) -> None:
        """End it for good and delete its data."""
        atexit.unregister(self.close)
        self.kill()  # in order or not: nobody reads the data again
        shutil.rmtree(self.directory, ignore_errors=True)

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of its log, and all it wrote to the console (little, unless it failed)."""
        return "\n".join([*_read(self._log).splitlines()[-lines:], _read(self._console)])

    @property
    def _properties(self) -> Path:
        return self.directory / "server.properties"

    @property
    def _log(self) -> Path:
        return self.directory / "server.log"

    @property
    def _console(self) -> Path:
        return self.directory / "console.log"

    def _server_properties(self) -> dict[str, str]:
        controller = f"CONTROLLER://{ports.HOST}:{self._controller_port}"
        bound = [f"{name}://{ports.HOST}:{at.port}" for name, at in self.listeners.items()]
        advertised = [
            f"{name}://{at.host}:{at.told_port or at.port}" for name, at in self.listeners.items()
        ]
        protocols = [f"{name}:{at.protocol or name}" for name, at in self.listeners.items()]
        return {
            "listeners": ",".join([*bound, controller]),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join([*protocols, "CONTROLLER:PLAINTEXT"]),
            **self._quorum(),
        } | self.settings

    def _quorum(self) -> dict[str, str]:
        """Return the settings of the controllers: this one is all of them."""
        return {"controller.quorum.bootstrap.servers": f"{ports.HOST}:{self._controller_port}"}

    def _format(self, *options: str) -> None:
        """Write the settings and lay out an empty data directory."""
        self._lay_out(new_cluster_id(), "--standalone", *options)

    def _lay_out(self, cluster_id: str, *options: str) -> None:
        lines = [f"{key}={value}\n" for key, value in self._server_properties().items()]
        self._properties.write_text("".join(lines))
        command = ["format", "--config", str(self._properties), *options]
        # The id in one word with its option, as it may begin with a dash.
        run_java("kafka.tools.StorageTool", [*command, f"--cluster-id={cluster_id}"])

    def _wait_until_ready(self, jvm: Jvm) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        # The port first: a client made too early waits between its attempts, ever longer.
        while not (ports.listens(self._port) and self._answers()):
            if jvm.exit_code is not None:
                message = f"the broker exited {jvm.exit_code} on start:\n{self.log_tail()}"
                raise BrokerError(message)
            if time.monotonic() > deadline:
                message = f"the broker is not up after {START_TIMEOUT_S:.0f} s:\n{self.log_tail()}"
                raise BrokerError(message)
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            cluster = self.admin().list_topics(timeout=30)
        except KafkaException:
            return False
        # After a restart the broker answers before it leads its partitions again.
        return bool(cluster.brokers) and all(
            partition.leader >= 0
            for topic in cluster.topics.values()
            for partition in topic.partitions.values()
        )


class DiskBroker(Broker):
    """A broker with its data on a disk: for measurements, and for more data than memory holds."""

    in_memory: ClassVar[bool] = False


def scratch(*, in_memory: bool) -> Path:
    """Make a directory for the data of a broker that is started by this process."""
    root = memory() if in_memory else None
    if root is not None:
        _sweep()
    return Path(tempfile.mkdtemp(prefix=f"kafkatest-{os.getpid()}-", dir=root))


def memory() -> Path | None:
    """Return where files are in memory, if there is room, and TMPDIR does not name a place.

    A disk that others are busy with may take seconds to flush. A controller waits for that, and
    then takes its broker for dead: all partitions lose their leaders, and tests fail by chance.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return None
    return _MEMORY if shutil.disk_usage(_MEMORY).free > _ROOM_BYTES else None


def _sweep() -> None:
    """Delete what killed processes have left: memory is too dear for it."""
    for left in _MEMORY.glob("kafkatest-*-*"):
        if not Path("/proc", left.name.split("-")[1]).exists():
            shutil.rmtree(left, ignore_errors=True)


def new_cluster_id() -> str:
    """Return an id as Kafka makes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""

"""The things that a test may do to any Kafka, its own or a given one."""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from tests.support.kafka import distribution

LOG4J = Path(__file__).with_name("log4j2.properties")
# Short-lived JVMs on two cores: the optimizing compiler and a parallel collector only cost here.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
# Long enough for a machine with far too much to do, short enough that a hanging test shows where.
TIMEOUT_S = 60.0


class ToolError(Exception):
    """A command line tool of Kafka's failed; the message has all it printed."""


class Cluster:
    """A Kafka that is up.

    Attributes:
        bootstrap: `host:port` of its plaintext listener, also for other processes.
    """

    bootstrap: str

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def admin(self) -> AdminClient:
        """Return a new admin client, quiet about connections that fail."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def create_topics(
        self, partitions: Mapping[str, int], config: Mapping[str, str] | None = None
    ) -> None:
        """Create topics and return when every partition has a leader.

        Args:
            partitions: How many, by topic. A topic that exists already is an error: what is in
                it would reach the test.
            config: Topic settings, the same for all of them.
        """
        self.create(
            [NewTopic(name, count, config=dict(config or {})) for name, count in partitions.items()]
        )

    def create(self, topics: Sequence[NewTopic]) -> None:
        """Create topics of different settings likewise, with one request."""
        admin = self.admin()
        for created in admin.create_topics(list(topics)).values():
            created.result(TIMEOUT_S)
        # The controller answers before the broker serves the partitions.
        deadline = time.monotonic() + TIMEOUT_S
        for topic in topics:
            while not _is_led(admin, topic):
                if time.monotonic() > deadline:
                    message = f"no leaders for {topic.topic} after {TIMEOUT_S:.0f} s"
                    raise TimeoutError(message)
                time.sleep(0.02)

    def recreate_topic(
        self, name: str, partitions: int, config: Mapping[str, str] | None = None
    ) -> None:
        """Delete a topic with all that is in it, and create one of the same name."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(TIMEOUT_S)
        # The controller answers before the broker has forgotten it.
        while admin.list_topics(name, timeout=TIMEOUT_S).topics[name].error is None:
            time.sleep(0.02)
        self.create_topics({name: partitions}, config)

    def delete_groups(self, groups: Sequence[str]) -> None:
        """Delete consumer groups with their offsets, as Kafka does once these have expired."""
        admin = self.admin()  # which has to live until the last answer
        for deleted in admin.delete_consumer_groups(list(groups)).values():
            deleted.result(TIMEOUT_S)

    def tool(self, main_class: str, *args: str) -> str:
        """Run one of Kafka's own command line tools against this cluster.

        Args:
            main_class: The class that the tool's shell script starts, e.g.
                `org.apache.kafka.tools.consumer.group.ConsumerGroupCommand`.
            *args: Its arguments but `--bootstrap-server`.

        Returns:
            What it printed, its complaints last.

        Raises:
            ToolError: If its exit code is not 0.
        """
        return run_java(main_class, ("--bootstrap-server", self.bootstrap, *args))


def java_command(
    main_class: str, args: Sequence[str], log: str, options: Sequence[str]
) -> list[str]:
    """Return the command that runs a class of Kafka's, or a program, and logs to the file `log`."""
    jars, archive = distribution.jars(), distribution.archive()
    classpath = f"{jars}/*"
    if main_class.endswith(".java"):
        source = Path(main_class)
        classpath, main_class = f"{classpath}:{distribution.compiled(source)}", source.stem
    return [
        distribution.java(),
        *JAVA_OPTIONS,
        *([f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []),
        *options,
        f"-Dlog4j2.configurationFile={LOG4J}",
        f"-Dkafkatest.log={log}",
        "-cp",
        classpath,
        main_class,
        *args,
    ]


def run_java(main_class: str, args: Sequence[str]) -> str:
    """Run a class of Kafka's to its end; see `Cluster.tool`."""
    command = java_command(main_class, args, "/dev/null", ("-Xmx256m",))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=120
    )
    if done.returncode != 0:
        message = f"{main_class} exited {done.returncode}:\n{done.stdout}{done.stderr}"
        raise ToolError(message)
    return done.stdout + done.stderr


def _is_led(admin: AdminClient, topic: NewTopic) -> bool:
    """Return whether each of its partitions has a leader.

    It asks for this topic alone: the shared broker of a run has those of all tests before.
    """
    found = admin.list_topics(topic.topic, timeout=TIMEOUT_S).topics[topic.topic].partitions
    return len(found) == topic.num_partitions and all(each.leader >= 0 for each in found.values())

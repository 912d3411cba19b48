"""Three brokers that keep three copies of everything, so that one of them may be lost."""

import atexit
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from tests.support.kafka import ports
from tests.support.kafka.broker import Broker, new_cluster_id
from tests.support.kafka.cluster import Cluster

COPIES = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # A copy that is lost must not hold up the others for 30 s.
    "replica.lag.time.max.ms": "5000",
}


class Member(Broker):
    """One of several; broker and controller in one."""

    def __init__(
        self, *, port: int | None, config: Mapping[str, str], java_options: Sequence[str]
    ) -> None:
        super().__init__(port=port, config=config, java_options=java_options)
        self.voters = ""

    @property
    def vote(self) -> str:
        """The address at which the others find its controller."""
        return f"{self.settings['node.id']}@{ports.HOST}:{self._controller_port}"

    def lay_out(self, cluster_id: str, voters: str) -> None:
        """Make its data directory, before its first `restart`."""
        self.voters = voters
        self._lay_out(cluster_id)

    def _quorum(self) -> dict[str, str]:
        return {"controller.quorum.voters": self.voters}


class Trio(Cluster):
    """Three brokers. As a context manager it closes itself.

    Attributes:
        members: The brokers, which may be stopped, killed and paused one at a time.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        super().__init__(",".join(member.bootstrap for member in members))
        self.members = list(members)

    @classmethod
    def start(cls, *, config: Mapping[str, str] | None = None) -> Self:
        """Start three new, empty brokers, and return when all of them answer.

        Raises:
            BrokerError: If one does not come up.
            FetchError: If Apache Kafka is not here yet and cannot be fetched.
        """
        members = [
            Member(
                port=None,
                config=COPIES | {"node.id": str(node)} | dict(config or {}),
                java_options=("-Xmx384m",),
            )
            for node in (1, 2, 3)
        ]
        trio = cls(members)
        atexit.register(trio.close)
        cluster_id, voters = new_cluster_id(), ",".join(member.vote for member in members)
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(lambda each: each.lay_out(cluster_id, voters), members))
                # None of them answers before there is a majority.
                list(pool.map(Broker.restart, members))
        except BaseException:
            trio.close()
            raise
        return trio

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def heal(self) -> None:
        """Return when all three run and answer, whatever was done to them before."""
        for member in self.members:
            member.heal()

    def close(self) -> None:
        """End them for good and delete their data."""
        atexit.unregister(self.close)
        for member in self.members:
            member.close()

"""The broker with a second listener that is reached over a `Link` only."""

from collections.abc import Mapping, Sequence

from tests.support.kafka import ports
from tests.support.kafka.broker import Broker, Listener
from tests.support.kafka.cluster import Cluster
from tests.support.kafka.link import Link


class RemoteBroker(Broker):
    """A `Broker` that some clients reach over a network link, others directly.

    Attributes:
        link: The link, to be cut, stalled and slowed down.
        far: This Kafka as it is over the link.
    """

    def __init__(
        self, *, port: int | None, config: Mapping[str, str], java_options: Sequence[str]
    ) -> None:
        super().__init__(port=port, config=config, java_options=java_options)
        behind, at = ports.free(2, for_good=True)
        self.listeners["FAR"] = Listener(ports.HOST, behind, told_port=at, protocol="PLAINTEXT")
        self.link = Link(at, behind)
        self.far = Cluster(f"{ports.HOST}:{at}")

    def heal(self) -> None:
        """Return when it runs and answers, over the link too."""
        self.link.mend()
        super().heal()

    def close(self) -> None:
        """End broker and link for good, and delete the data."""
        super().close()
        self.link.close()

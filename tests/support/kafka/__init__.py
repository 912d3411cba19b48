"""A real Apache Kafka for the tests, and for trying things by hand (`make kafka`).

`Broker.start()` runs one broker in a JVM of its own and never leaves it behind; `SecureBroker`
adds a SASL_SSL listener, `RemoteBroker` one over a `Link` that a test may cut; a `Trio` is three
brokers. Their data is in memory where there is room, but that of a `DiskBroker`. `Cluster` is what
all share with a broker that others run.
"""

from tests.support.kafka.broker import Broker, BrokerError, DiskBroker
from tests.support.kafka.cluster import Cluster, ToolError
from tests.support.kafka.link import Link
from tests.support.kafka.remote import RemoteBroker
from tests.support.kafka.secure import SecureBroker
from tests.support.kafka.trio import Trio

__all__ = [
    "Broker",
    "BrokerError",
    "Cluster",
    "DiskBroker",
    "Link",
    "RemoteBroker",
    "SecureBroker",
    "ToolError",
    "Trio",
]

"""A real Apache Kafka for the tests, and for trying things by hand (`python -m kafkatest`).

`Broker.start()` runs one broker in a JVM of its own and never leaves it behind; `SecureBroker`
adds a SASL_SSL listener, `RemoteBroker` one over a `Link` that a test may cut; a `Trio` is three
brokers. Their data is in memory where there is room, but that of a `DiskBroker`. `Cluster` is what
all share with a broker that others run.
"""

from kafkatest.broker import Broker, BrokerError, DiskBroker
from kafkatest.cluster import Cluster, ToolError
from kafkatest.link import Link
from kafkatest.remote import RemoteBroker
from kafkatest.secure import SecureBroker
from kafkatest.trio import Trio

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

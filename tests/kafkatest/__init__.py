"""A real Apache Kafka for the tests, and for trying things by hand (`python -m kafkatest`).

`Broker.start()` runs one broker in a JVM of its own and never leaves it behind; `SecureBroker`
adds a SASL_SSL listener. `Cluster` is what both share with a broker that somebody else runs.
"""

from kafkatest.broker import Broker, BrokerError
from kafkatest.cluster import Cluster, ToolError
from kafkatest.secure import SecureBroker

__all__ = ["Broker", "BrokerError", "Cluster", "SecureBroker", "ToolError"]

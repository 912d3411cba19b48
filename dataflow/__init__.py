"""The payments stream processor: a Bytewax dataflow on Kafka."""

__version__ = "0.1.0"

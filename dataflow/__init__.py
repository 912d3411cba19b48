"""The payments stream processor: a Bytewax dataflow on Kafka."""

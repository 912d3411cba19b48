"""The ids in the lanes' log, written as if the product had claimed them: seconds, not minutes."""

import time

import numpy as np
from confluent_kafka import Producer

from dataflow.core.lane_log import entries_of, headers

_IDS_IN_A_RECORD = 1_000
"""As many as an epoch of one lane has at some thousand payments a second."""


def prefill(brokers: str, topic: str, lanes: int, ids: int) -> None:
    """Append `ids` random ids, of all lanes alike."""
    producer = Producer({"bootstrap.servers": brokers, "linger.ms": 50, "compression.type": "lz4"})
    random = np.random.default_rng(ids)
    now_s = int(time.time())
    for n, start in enumerate(range(0, ids, _IDS_IN_A_RECORD)):
        lane, count = n % lanes, min(_IDS_IN_A_RECORD, ids - start)
        # All 64 bits, as hashes have them: the index chooses its places by the highest ones.
        words = random.integers(0, 2**64, (4, count), np.uint64)
        words[0] -= words[0] % np.uint64(lanes)
        words[0] = np.where(words[0] > np.uint64(2**64 - 1 - lanes), 0, words[0])
        words[0] += np.uint64(lane)
        value = entries_of(words[:2].T, words[2], words[3], now_s).tobytes()
        while True:
            try:
                producer.produce(topic, value, headers=headers(lane, lanes))
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60):
        raise RuntimeError(f"{topic}: Kafka did not take all of {ids} ids")

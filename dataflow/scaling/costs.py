"""The measured work of one core: the input of all that is calculated here.

Each figure is of a machine with two cores, where the broker and the measurement work as well, so
`exchange_us` is rather too high. Another machine has others: measure them there (`make bench`) and
give them to the calculator.
"""

from msgspec import Struct


class Costs(Struct, frozen=True, kw_only=True):
    """The costs of a payment, of an id, and of a commit."""

    cpu_us: float = 13.0
    """CPU of a payment in one process, librdkafka's threads included."""
    worker_share: float = 0.8
    """Share of it that the worker does itself, under Python's lock: no second thread helps it."""
    exchange_us: float = 8.0
    """CPU added to a payment that is read by one process and decided by another."""
    id_bytes: float = 2.0
    """Page cache for a remembered id: its filter and index, which every lookup needs."""
    file_bytes: float = 45.0
    """Files of a remembered id."""
    stored_bytes: float = 36.0
    """The lanes' log for a remembered id, on each replica, before compression."""
    base_bytes: float = 470e6
    """Memory of a process, with the ids that are not in files (DEDUPE_MEMORY)."""
    resume_us: float = 0.6
    """Time that a remembered id adds to a restart without files."""
    commit_s: float = 0.015
    """Median of a lane's commit."""
    commit_spread: float = 0.7
    """Standard deviation of the logarithm of that: commits have a long tail."""
    store_s: float = 0.01
    """Time that Bytewax takes to close an epoch and to store its snapshots."""
    written_bytes: float = 650.0
    """Bytes of a payment's events, before compression."""
    broker_bytes_per_s: float = 50e6
    """The bytes that one broker takes in, replication included."""


COMMITS_AT_ONCE = 16
"""Of one worker: see `dataflow.kafka.sink`."""
FETCH_TOTAL_BYTES = 512 * 2**20
"""Fetched but unread records of all partitions, at most: `dataflow.kafka.client_config`."""

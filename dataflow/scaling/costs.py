"""The measured work of one core: the input of all that is calculated here.

Each figure is of a machine with two cores, where the broker and the measurement work as well, so
`exchange_us` is rather too high. Another machine has others: measure them there (`make bench`) and
give them to the calculator.
"""

from msgspec import Struct


class Costs(Struct, frozen=True, kw_only=True):
    """The costs of a payment, of an id, and of a commit; `MEANING` describes each."""

    cpu_us: float = 13.0
    worker_share: float = 0.8
    exchange_us: float = 8.0
    id_bytes: float = 2.0
    file_bytes: float = 45.0
    stored_bytes: float = 36.0
    base_bytes: float = 470e6
    resume_us: float = 0.6
    commit_s: float = 0.015
    commit_spread: float = 0.7
    store_s: float = 0.01
    written_bytes: float = 650.0
    broker_bytes_per_s: float = 50e6


MEANING = {
    "cpu_us": "CPU of a payment in one process, librdkafka's threads included, in us",
    "worker_share": "share of it that needs Python's lock, so that no second thread helps",
    "exchange_us": "CPU added to a payment that one process reads and another decides, in us",
    "id_bytes": "page cache of a remembered id: its filter and index, which every lookup needs",
    "file_bytes": "size of a remembered id in files",
    "stored_bytes": "size of a remembered id in the lane log, on each replica, uncompressed",
    "base_bytes": "memory of a process, with the ids that are not in files (DEDUPE_MEMORY)",
    "resume_us": "time that a remembered id adds to a restart without files, in us",
    "commit_s": "median time of a lane's commit",
    "commit_spread": "standard deviation of its logarithm: commits have a long tail",
    "store_s": "time in which Bytewax closes an epoch and stores its snapshots",
    "written_bytes": "size of a payment's events, uncompressed",
    "broker_bytes_per_s": "bytes/s that one broker takes in, replication included",
}
"""The meaning of each cost, as `payments scale --help` prints it."""

COMMITS_AT_ONCE = 16
"""Of one worker: see `dataflow.kafka.sink`."""
FETCH_TOTAL_BYTES = 512 * 2**20
"""Fetched but unread records of all partitions, at most: `dataflow.kafka.client_config`."""

"""From a rate, a window and a latency to processes, lanes, partitions and epochs.

In this order, each being bounded by what comes before it:

1. *processes*: the worker's thread is the limit of one, and should be busy for `BUSY` of its time
   at most, so that a backlog is worked off; and the ids of the window must fit into its memory;
2. *cells*: processes of one cluster close their epochs together and share one store, so a cluster
   has at most `processes_in_cell` of them. Beyond that, the requests are split by paymentId into
   topics of their own, each with a cluster, a group and a store of its own: a cell;
3. *interval*: the longest `COMMIT_INTERVAL` that the wished latency allows, since each commit has
   its price;
4. *lanes*: as many as commit at once; few when the interval is short, since each epoch waits for
   the slowest of its commits;
5. *partitions*: some for each process, so that its load is even.
"""

import math

from msgspec import Struct

from dataflow.scaling.costs import FETCH_TOTAL_BYTES, Costs
from dataflow.scaling.simulate import Setup, Waits, payment_us, simulate, utilisation

BUSY = 0.6
"""Of a worker's time at the given rate: the rest is for backlogs and bad days."""
LANES_EACH, LANES_EACH_FAST = 4, 2
"""Lanes of a process, and where the interval is less than `FAST_S`."""
FAST_S = 0.1
PARTITIONS_EACH = 3
FIXED_BYTES = FETCH_TOTAL_BYTES
"""Memory that a process must have for what it has fetched, when there is a backlog."""
MOST_LANES, MOST_PARTITIONS = 256, 65_536
INTERVALS_S = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02)
"""Longest first, which costs least."""


class Wish(Struct, frozen=True, kw_only=True):
    """The wish to plan for."""

    rate: float
    """Requests a second at the busiest time."""
    average: float
    """Requests a second over the window: so many are remembered."""
    memory_bytes: float
    """Of one process, at most."""
    window_s: float
    latency_s: float
    """99 % of the outcomes are to be visible after so long."""
    processes_in_cell: int = 8
    costs: Costs = Costs()


class Plan(Struct, frozen=True, kw_only=True):
    """The answer. All but `cells` and the broker's figures is of one cell."""

    cells: int
    processes: int
    lanes: int
    partitions: int
    interval_s: float
    busy: float
    waits: Waits
    meets: bool
    """True if the wished latency is kept."""
    cores: float
    """Of a process, its client's threads included."""
    ids: float
    """Remembered in a process."""
    memory_bytes: float
    file_bytes: float
    """Files of a process."""
    log_bytes: float
    """The size of a cell's lanes' log, on each replica."""
    resume_s: float
    transactions_per_s: float
    """Of all cells."""
    brokers: int
    """For all cells, by what is written with three replicas."""


def plan(wish: Wish) -> Plan:
    """Return the smallest way to do it; the fastest one there is, if none is fast enough."""
    costs = wish.costs
    cells, processes = _sizes(wish)
    rate = wish.rate / cells
    setup, waits = _interval(wish, rate, processes)
    partitions = min(MOST_PARTITIONS, max(3, PARTITIONS_EACH * processes))
    average = wish.average / cells
    ids = average * wish.window_s / processes
    cycle_s = waits.cycle_s
    written = wish.rate * (costs.written_bytes + costs.stored_bytes) * 3
    return Plan(
        cells=cells,
        processes=processes,
        lanes=setup.lanes,
        partitions=partitions,
        interval_s=setup.interval_s,
        busy=utilisation(costs, setup),
        waits=waits,
        meets=waits.p99_s <= wish.latency_s,
        cores=rate / processes * payment_us(costs, processes) * 1e-6,
        ids=ids,
        memory_bytes=FIXED_BYTES + costs.base_bytes + ids * costs.id_bytes,
        file_bytes=ids * costs.file_bytes,
        log_bytes=average * wish.window_s * costs.stored_bytes,
        resume_s=3 + ids * costs.resume_us * 1e-6,
        transactions_per_s=cells * setup.lanes / cycle_s,
        brokers=max(3, math.ceil(written / costs.broker_bytes_per_s)),
    )


def _sizes(wish: Wish) -> tuple[int, int]:
    """Return the number of cells, and of processes of each."""
    costs = wish.costs
    room = max(1.0, wish.memory_bytes - FIXED_BYTES - costs.base_bytes)
    for_ids = math.ceil(wish.average * wish.window_s * costs.id_bytes / room)

    def needed(processes: int) -> int:
        """Return the number of all cells, if each has so many: the more, the more they exchange."""
        one = utilisation(costs, Setup(wish.rate, processes, 1, 1.0)) * processes
        return max(for_ids, math.ceil(one / BUSY), 1)

    most = wish.processes_in_cell
    for processes in range(1, most + 1):
        if needed(processes) <= processes:
            return 1, processes
    return math.ceil(needed(most) / most), most


def _interval(wish: Wish, rate: float, processes: int) -> tuple[Setup, Waits]:
    """Return the longest interval that is short enough, or the fastest."""
    tried = []
    for interval_s in INTERVALS_S:
        each = LANES_EACH if interval_s >= FAST_S else LANES_EACH_FAST
        lanes = min(MOST_LANES, each * processes)
        setup = Setup(rate, processes, lanes, interval_s)
        tried.append((setup, simulate(wish.costs, setup)))
        if tried[-1][1].p99_s <= wish.latency_s:
            return tried[-1]
    return min(tried, key=lambda each: each[1].p99_s)

"""Epochs on a model of the flow: how long a request waits until its outcome is visible.

At each instant of `COMMIT_INTERVAL` a worker takes what has arrived and works it off; then its
lanes commit, some at once; when all workers are done, the epoch is stored. If the next instant has
passed by then, the next epoch begins at once. All of it is drawn from a seed: equal questions have
equal answers.
"""

import math
from typing import NamedTuple

import numpy as np

from dataflow.core.epochs import Epochs
from dataflow.scaling.costs import COMMITS_AT_ONCE, Costs

_EPOCHS = 600
_WARM_UP = 50
_SAMPLES = 40
_HOPELESS_S = 60.0


class Setup(NamedTuple):
    """One way to run the flow.

    Attributes:
        rate: Requests a second, of all workers.
        workers: Processes of a cluster, one worker each.
        lanes: Of all workers.
        interval_s: The commit interval.
    """

    rate: float
    workers: int
    lanes: int
    interval_s: float


class Waits(NamedTuple):
    """From request to visible outcome, in seconds; infinite when it falls behind."""

    p50_s: float
    p99_s: float
    cycle_s: float
    """Mean time from one epoch's beginning to the next one's."""


def payment_us(costs: Costs, workers: int) -> float:
    """Return the CPU of a payment in a cluster: most are decided elsewhere than they were read."""
    return costs.cpu_us + costs.exchange_us * (workers - 1) / workers


def utilisation(costs: Costs, setup: Setup) -> float:
    """Return the share of its time that each worker is busy; above 1 it falls behind."""
    work_s = payment_us(costs, setup.workers) * costs.worker_share * 1e-6
    return setup.rate / setup.workers * work_s


def simulate(costs: Costs, setup: Setup, seed: int = 1) -> Waits:
    """Play some hundred epochs."""
    if utilisation(costs, setup) >= 1:
        return Waits(math.inf, math.inf, math.inf)
    random = np.random.default_rng(seed)
    work_s = utilisation(costs, setup) / setup.rate  # of the cluster, for each payment
    epochs = Epochs(setup.interval_s)
    turns = math.ceil(setup.lanes / setup.workers / COMMITS_AT_ONCE)
    waits = []
    taken = end = cycle_sum = 0.0
    for epoch in range(_EPOCHS):
        # An instant that has passed while the last epoch was closing counts at once.
        now = max(end, epochs.next_s(taken, idle=False))
        closed = now + (now - taken) * setup.rate * work_s
        draws = random.lognormal(
            math.log(costs.commit_s), costs.commit_spread, (turns, setup.lanes)
        )
        commits = np.cumsum(draws, axis=0)[-1]
        end = closed + float(commits.max()) + costs.store_s
        if epoch >= _WARM_UP:
            arrivals = random.uniform(taken, now, _SAMPLES)
            own = random.choice(commits, _SAMPLES)
            waits.append(closed + own - arrivals)
            cycle_sum += now - taken
        taken = now
        if end - taken > _HOPELESS_S:
            return Waits(math.inf, math.inf, math.inf)
    p50, p99 = np.quantile(np.concatenate(waits), [0.5, 0.99]).tolist()
    return Waits(p50, p99, cycle_sum / (_EPOCHS - _WARM_UP))

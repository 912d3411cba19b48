"""The terms on which charging is measured. No imports: the plot has none of our libraries."""

LATENCY_S = 0.1
CONCURRENCY = 256
RATE = 500
"""Requests a second at which the time to the outcome is measured."""
HANGING = 0.001
"""The share of calls that the provider does not answer in time."""
HANG_S = 10.0
OUTAGE_S = 20.0
"""The time for which the provider is away."""
FULL_SHARE = 0.9
"""The rate is full again once it is so much of the rate before the outage."""
POISON = 500
"""One paymentId of so many is never answered."""
MOST_PARKED = 200_000
"""The setting, above what is parked."""
WORKERS = 2
WORKERS_CONCURRENCY = 32
WORKERS_LATENCY_S = 0.3
WORKERS_PARTITIONS = 12

"""The tests, one package: it mirrors `dataflow`, and the programs in it run as its modules.

support/   what many tests use: Kafka, the flow as a process, invariants, the hooks in the flow
chaos/, bench/, soak/, explore/, pictures/, published/   programs, such as `python -m tests.chaos`
"""

from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository."""

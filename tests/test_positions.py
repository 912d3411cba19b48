"""Where a start looks first: the previous run may be alive, and go on meanwhile."""

from typing import Any

import pytest
from required import REQUIRED

from dataflow.connectors import start
from dataflow.connectors.bounds import LATEST
from dataflow.connectors.cluster import Cluster
from dataflow.connectors.names import Metadata
from dataflow.connectors.offsets import Offset
from dataflow.connectors.start import Positions
from dataflow.settings import Settings


def test_a_run_that_still_commits_does_not_look_like_a_recreated_topic(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each answer is a little later than the one before it."""
    now = iter(range(100, 1_000, 100))

    def offsets_at(_admin: Any, _topic: str, partitions: Any, spec: Any) -> dict[int, int]:
        return {each: next(now) if spec is LATEST else 0 for each in partitions}

    def committed_offsets(*_: Any, **__: Any) -> dict[int, Offset]:
        return {0: Offset(next(now), Metadata(lanes=4))}

    monkeypatch.setattr(start, "offsets_at", offsets_at)
    monkeypatch.setattr(start, "committed_offsets", committed_offsets)
    monkeypatch.setattr(start, "_members", lambda *_: [])
    found = Positions(Settings.from_env(REQUIRED), Cluster("", [0])).find(0, None)
    assert found.offset < found.end_offset

"""The board: which lanes the sources wake, and how often."""

import numpy as np

from dataflow.core.items import DedupedBatch, Remembered
from dataflow.core.lane_board import LaneBoard
from dataflow.core.lane_queue import LaneQueue
from tests.gateways.sample_requests import make_request

PARK_AFTER_S = 2.0


def claimed(board: LaneBoard, epoch: int) -> LaneQueue:
    """Return a lane that has claimed a payment in an epoch."""
    queue = LaneQueue(3)
    queue.begin(epoch, 0.0)
    queue.add(
        DedupedBatch(
            partition=0,
            next_offset=1,
            read_at=0.0,
            offsets=[0],
            times_ms=np.zeros(1, np.int64),
            verdicts=[0],
            first_origins=[0],
            parsed=[make_request("pay_1")],
            entries=b"",
            remembered=Remembered(0, 0),
        ),
        [0],
    )
    board.show(queue)
    return queue


def test_a_lane_with_committed_claims_is_woken_by_one_source_in_an_epoch() -> None:
    """Each signal has the lane look at all that it has."""
    board = LaneBoard()
    claimed(board, 5)
    assert board.to_wake(5, 0.0, PARK_AFTER_S) == set()
    assert board.to_wake(6, 0.0, PARK_AFTER_S) == {3}
    assert board.to_wake(6, 0.0, PARK_AFTER_S) == set()
    assert board.to_wake(7, 0.0, PARK_AFTER_S) == {3}, "the one before has come to nothing"


def test_a_lane_whose_head_has_waited_is_woken_by_one_source_in_an_epoch() -> None:
    board = LaneBoard()
    queue = claimed(board, 5)
    queue.begin(6, 10.0)
    board.show(queue)
    assert board.to_wake(6, 10.0 + PARK_AFTER_S - 0.1, PARK_AFTER_S) == set()
    assert board.to_wake(6, 10.0 + PARK_AFTER_S, PARK_AFTER_S) == {3}
    assert board.to_wake(6, 10.0 + PARK_AFTER_S, PARK_AFTER_S) == set()
    assert board.to_wake(7, 10.0 + PARK_AFTER_S, PARK_AFTER_S) == {3}

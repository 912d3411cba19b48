"""A source in memory that goes on until the gateway has answered everything."""

from collections.abc import Iterable

from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from dataflow.core.items import ControlMessage, Signal, SourceItem
from dataflow.runtime import Runtime


class AnsweredSource(FixedPartitionedSource[SourceItem, None]):
    """Items, each in an engine's epoch of its own, and then signals for as long as it takes."""

    def __init__(self, items: Iterable[SourceItem], runtime: Runtime) -> None:
        self._items = list(items)
        self._runtime = runtime

    def list_parts(self) -> list[str]:
        return ["all"]

    def build_part(self, _step_id: str, _for_part: str, _resume_state: None) -> "_Partition":
        return _Partition(self._items, self._runtime)


class _Partition(StatefulSourcePartition[SourceItem, None]):
    def __init__(self, items: list[SourceItem], runtime: Runtime) -> None:
        self._items = iter(items)
        self._board = runtime.board
        self._epoch = 0

    def next_batch(self) -> list[SourceItem]:
        item = next(self._items, None)
        if item is not None:
            return [item]
        # Each epoch proves that the claims of the one before are committed.
        self._epoch += 1
        if self._epoch > 1 and not self._board.is_waiting:
            raise StopIteration
        return [ControlMessage(Signal.WAKE, 0, 0, epoch=self._epoch)]

    def snapshot(self) -> None:
        return None

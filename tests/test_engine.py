"""The engine's recovery, as the product counts on it: which rows of a crashed epoch it reads later.

A crash leaves rows in the recovery store of the epoch that it has cut off. Those of a source are
written again by the next run before that epoch can be durable, so none is ever read. A step
writes only what has changed: a row of the crashed epoch may stay, and is read by a later run.
"""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.errors import BytewaxRuntimeError
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.operators import StatefulBatchLogic
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import run_main

CUT_OFF = "cut off"
"""The item in whose epoch a run crashes, before the sink has closed it."""


class Run(FixedPartitionedSource[str, str], FixedPartitionedSink[str, str]):
    """One run of a flow whose states are the run's name: one item an epoch, on the first partition.

    Attributes:
        name: What all of its rows hold.
        read: What it was given of former runs: by step, the names of those.
    """

    def __init__(self, name: str, *items: str) -> None:
        self.name = name
        self.items = list(items)
        self.read: dict[str, set[str]] = {"source": set(), "step": set(), "sink": set()}

    def list_parts(self) -> list[str]:
        return ["0", "1"]

    def part_fn(self, _key: str) -> int:
        return 0

    def build_part(self, step_id: str, for_part: str, resume_state: str | None) -> Any:
        step = step_id.removeprefix("engine.")
        self.note(step, resume_state)
        return Input(self, for_part) if step == "source" else Output(self)

    def note(self, step: str, state: str | None) -> None:
        self.read[step] |= {state} if state else set()

    def go(self, directory: Path) -> None:
        flow = Dataflow("engine")
        keyed = op.key_on("key", op.input("source", flow, self), str)
        op.output("sink", op.stateful_batch("step", keyed, self._logic()), self)
        recovery = RecoveryConfig(directory)  # type: ignore[no-untyped-call]
        run_main(  # type: ignore[no-untyped-call]
            flow, epoch_interval=timedelta(0), recovery_config=recovery
        )

    def _logic(self) -> Callable[[str | None], "Step"]:
        return lambda state: Step(self, state)


class Input(StatefulSourcePartition[str, str]):
    def __init__(self, run: Run, part: str) -> None:
        self._run = run
        self._items = run.items if part == "0" else [""] * len(run.items)

    def next_batch(self) -> list[str]:
        if not self._items:
            raise StopIteration
        item = self._items.pop(0)
        return [item] if item else []

    def snapshot(self) -> str:
        return self._run.name


class Step(StatefulBatchLogic[str, str, str]):
    def __init__(self, run: Run, state: str | None) -> None:
        self._run = run
        run.note("step", state)

    def on_batch(self, values: list[str]) -> tuple[list[str], bool]:
        return values, False

    def snapshot(self) -> str:
        return self._run.name


class Output(StatefulSinkPartition[str, str]):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._written: list[str] = []

    def write_batch(self, values: list[str]) -> None:
        self._written += values

    def snapshot(self) -> str:
        if CUT_OFF in self._written:
            raise RuntimeError("broken on purpose")
        return self._run.name


def test_no_row_of_a_source_is_read_of_an_epoch_that_was_cut_off(tmp_path: Path) -> None:
    init_db_dir(tmp_path, 1)  # type: ignore[no-untyped-call]
    Run("first", "a").go(tmp_path)
    for name in ("second", "third"):
        with pytest.raises(BytewaxRuntimeError):
            Run(name, CUT_OFF).go(tmp_path)
    last = [Run("fourth", "b"), Run("fifth", "c")]
    for run in last:
        run.go(tmp_path)
    assert last[0].read["source"] == {"first"}
    assert last[1].read["source"] == {"fourth"}
    assert "third" in last[1].read["step"], "as the lanes' steps would be, if they kept anything"

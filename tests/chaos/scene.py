"""One flow under load, with topics and a recovery directory of its own, for faults to strike."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Self, TypeVar

from tests import ROOT
from tests.chaos.follower import Follower, seen_in
from tests.chaos.load import Load
from tests.chaos.shapes import TIMEOUT_S, EndedError, Ensemble, Shape
from tests.support.flow_process import FOREIGN, Topics, has_open_transaction, read_all
from tests.support.hooks.tuning import GENERATION_SHARE, WATCH_EVERY_S, Constant, tuned
from tests.support.invariants import Findings, event_of, find, open_entries
from tests.support.kafka import Broker, Cluster, RemoteBroker, Trio

PARTITIONS = 3
LANES = 4
_ONCE_MORE = 5
"""The number of restarts of a run that has ended by a fault: brokers take a while to come back."""
_QUICK = {WATCH_EVERY_S: 0.5}
_WITH_FILES = 0.7
"""The share of runs that keep remembered ids in files, besides what a fault asks for."""
FILES = {GENERATION_SHARE: 1e12}
"""Every lane makes a file of remembered ids in every epoch."""

_T = TypeVar("_T")


class Scene:
    """The scene in which faults strike. Between two of them no process of the flow runs.

    Attributes:
        kafka: The Kafka, for everybody but the flow.
        shape: Of the runs to come; a fault may change it, as it may `lanes`.
        load: What is sent all the time.
        rng: Where everything that is left to chance comes from.
        hits: How often each named point was really hit.
        kills: How many runs were ended by SIGKILL.
        runs: How many runs there were.
        faults: How many of them ended by a fault of their own, while Kafka was disturbed.
    """

    def __init__(
        self, kafka: Cluster, directory: Path, shape: Shape, rng: Random, rate: float
    ) -> None:
        self.kafka = kafka
        # Over the link, if there is one to be cut.
        self._far = kafka.far if isinstance(kafka, RemoteBroker) else kafka
        self.directory = directory
        self.shape = shape
        self.rng = rng
        self.lanes = LANES
        self.hits: Counter[str] = Counter()
        self.kills = 0
        self.runs = 0
        self.faults = 0
        self.last_run: Ensemble
        self.topics = Topics.unused("chaos-")
        self.topics.create(kafka, PARTITIONS)
        self.load = Load(
            kafka, self.topics.requested, PARTITIONS, Random(rng.getrandbits(48)), rate
        )
        self._follower = Follower(kafka, self.topics.outputs, PARTITIONS)
        self.load.start()
        self._follower.start()

    # ---- Kafka, if it is one that a fault may disturb ----

    @property
    def broker(self) -> Broker:
        """The one broker."""
        assert isinstance(self.kafka, Broker)
        return self.kafka

    @property
    def remote(self) -> RemoteBroker:
        """The broker beyond a link."""
        assert isinstance(self.kafka, RemoteBroker)
        return self.kafka

    @property
    def trio(self) -> Trio:
        """The three brokers."""
        assert isinstance(self.kafka, Trio)
        return self.kafka

    # ---- runs ----

    @property
    def recovery(self) -> Path:
        """The recovery directory."""
        return self.directory / "recovery"

    def run(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        directory: Path | None = None,
        prefix: Sequence[str] = (),
        shape: Shape | None = None,
    ) -> Ensemble:
        """Start the flow; to be used as a context manager."""
        self.runs += 1
        self.last_run = Ensemble(
            self._far,
            self.topics,
            directory or self.directory,
            shape or self.shape,
            {"LANES": str(self.lanes), **tuned(self._tune()), **(environ or {})},
            prefix=prefix,
        )
        return self.last_run

    def _tune(self) -> Mapping[Constant, float]:
        return _QUICK | FILES if self.rng.random() < _WITH_FILES else _QUICK

    def crash(self, point: str, passes: int = 1, environ: Mapping[str, str] | None = None) -> None:
        """Run until it passes a named point for the n-th time, where it is killed."""
        environ = {
            "CRASH_AT": f"{point}:{passes}",
            "CRASH_SEED": str(self.rng.getrandbits(32)),
            **(environ or {}),
        }
        with self.run(environ) as flow:
            self.killed_at(point, flow)

    def killed_at(self, point: str, flow: Ensemble) -> None:
        """Wait for the end of a run that is to be killed at a point; count it if it was there."""
        codes = flow.wait_for_end()
        if -9 not in codes:
            raise EndedError(f"exit codes {codes}, none by SIGKILL:\n{flow.log}")
        assert 0 not in codes, f"exit codes {codes}: one ended as if all were well:\n{flow.log}"
        assert set(flow.passed) == {point}, f"killed, but not at {point}: {flow.passed}"
        self.hits[point] += 1
        self.kills += 1

    def carry_on(self, environ: Mapping[str, str] | None = None) -> None:
        """Run without a fault until everything sent so far is decided, and stop in order."""
        with self.run(environ) as flow:
            flow.wait_until_ready()
            self.wait_until_decided(flow)
            flow.stop()

    def supervised(self, what: Callable[[], _T]) -> _T:
        """Do something with the flow, and again when it ends by a fault, as a supervisor would.

        Only where Kafka itself is disturbed: elsewhere there is nothing that may end a run.
        """
        if not isinstance(self.kafka, RemoteBroker | Trio):
            return what()
        for _ in range(_ONCE_MORE):
            try:
                return what()
            except EndedError:
                last = self.last_run
                if not (last.fault_kinds() or last.reasons("refused to start")):
                    raise
                self.faults += 1
        return what()

    def wait_until_decided(self, flow: Ensemble) -> None:
        """Wait until all that is in Kafka now has its outcome."""
        count = self.load.count
        flow.wait(lambda: flow.decided() >= count, f"done with {count} records")

    def at_work(self, flow: Ensemble) -> None:
        """Wait until it is ready, and has decided something more."""
        flow.wait_until_ready()
        before = flow.decided()
        flow.wait(lambda: flow.decided() > before, "at work")

    # ---- the recovery directory ----

    def copy_store(self, name: str) -> Path:
        """Copy the recovery directory, while nothing runs, to where a run may use it."""
        directory = self.new_directory(name)
        shutil.copytree(self.recovery, directory / "recovery")
        return directory

    def copy_live_store(self, name: str) -> Path:
        """Copy the recovery directory as of some epoch, taken while it is in use."""
        directory = self.new_directory(name)
        (directory / "recovery").mkdir()
        for path in sorted(self.recovery.glob("part-*.sqlite3")):
            with (
                closing(sqlite3.connect(path)) as source,
                closing(sqlite3.connect(directory / "recovery" / path.name)) as target,
            ):
                source.backup(target)
        return directory

    def use_store(self, directory: Path) -> None:
        """Use this directory as the recovery directory from now on."""
        shutil.rmtree(self.recovery)
        (directory / "recovery").rename(self.recovery)

    def new_directory(self, name: str) -> Path:
        """Make a directory for a run."""
        directory = self.directory / f"{name}-{time.monotonic_ns()}"
        directory.mkdir()
        return directory

    # ---- the end ----

    def finish(self) -> Findings:
        """Decide everything, and check all of it; the problems are in the findings."""
        self.load.end()
        self.supervised(self.carry_on)
        inputs = self.load.sent
        outputs = [read_all(self.kafka, topic) for topic in self.topics.outputs]
        processed, failed, audit = ([event_of(m) for m in messages] for messages in outputs)
        waiting = open_entries(self.kafka, self.topics)
        findings = find(inputs, processed + failed, audit, waiting)
        findings.problems += verified(self)
        findings.problems += self._follower.differs_from(seen_in([m for ms in outputs for m in ms]))
        findings.problems += [
            f"open transaction: {topic} has one left"
            for topic in self.topics.written
            if has_open_transaction(self.kafka, topic)
        ]
        return findings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running, and give back the topics."""
        self.load.end()
        self._follower.end()
        topics = [self.topics.requested, *self.topics.written]
        admin = self.kafka.admin()
        for deleted in admin.delete_topics(topics).values():
            deleted.result(TIMEOUT_S)


def verified(scene: Scene) -> list[str]:
    """Return what the product's own checker finds, over the same topics."""
    environ = {
        **{name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)},
        "PYTHONPATH": str(ROOT),
        "KAFKA_BROKERS": scene.kafka.bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "GATEWAY": "simulated",
        "LANES": str(scene.lanes),
        **scene.topics.environ(),
    }
    done = subprocess.run(
        [sys.executable, "-m", "dataflow", "verify", "--json"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout:
        return [f"other: the checker says {done.stderr.strip()!r}"]
    found = json.loads(done.stdout)
    return [f"{each['kind'].replace('_', ' ')}: {each}" for each in found["examples"]]

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

from dataflow.fake_provider.behaviour import Fault
from tests import ROOT
from tests.chaos import money
from tests.chaos.follower import Follower, seen_in
from tests.chaos.load import Load
from tests.chaos.provider import SIMULATED, TUNED, Provider
from tests.chaos.shapes import TIMEOUT_S, EndedError, Ensemble, Shape
from tests.support.flow_process import FOREIGN, Topics, has_open_transaction, read_all
from tests.support.hooks.tuning import GENERATION_SHARE, WATCH_EVERY_S, Constant, tuned
from tests.support.invariants import Findings, event_of, find, open_entries, requests_in
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

_WITHOUT_STORE = 0.6
"""The share of restarts to be without a recovery directory: half of them have to."""
_LOST_AT_MOST, _LOST_AT_LEAST = 0.9, 0.3
"""The chance that a restart finds none: as long as there were fewer than that, and else."""

_T = TypeVar("_T")


class Scene:
    """The scene in which faults strike. Between two of them no process of the flow runs.

    Attributes:
        kafka: The Kafka, for everybody but the flow.
        gateway: The name of what the runs charge by.
        keeps_store: True while a fault needs the recovery directory of the run before.
        shape: Of the runs to come; a fault may change it, as it may `lanes`.
        load: What is sent all the time.
        rng: Where everything that is left to chance comes from.
        hits: How often each named point was really hit.
        kills: How many runs were ended by SIGKILL.
        runs: How many runs there were.
        without_store: How many of them, but the first, began without a recovery directory.
        faults: How many of them ended by a fault of their own, while Kafka was disturbed.
    """

    def __init__(
        self,
        kafka: Cluster,
        directory: Path,
        shape: Shape,
        rng: Random,
        rate: float,
        gateway: str = SIMULATED,
    ) -> None:
        self.kafka = kafka
        self.gateway = gateway
        # Over the link, if there is one to be cut.
        self._far = kafka.far if isinstance(kafka, RemoteBroker) else kafka
        self.directory = directory
        self.shape = shape
        self.rng = rng
        self.lanes = LANES
        self.hits: Counter[str] = Counter()
        self.kills = 0
        self.runs = 0
        self.without_store = 0
        self.faults = 0
        self.keeps_store = False
        self.last_run: Ensemble | None = None
        self.topics = Topics.unused("chaos-")
        self.topics.create(kafka, PARTITIONS)
        self._provider = None if gateway == SIMULATED else Provider(directory, gateway)
        self.load = Load(kafka, self.topics, PARTITIONS, Random(rng.getrandbits(48)), rate, gateway)
        self._follower = Follower(kafka, self.topics.outputs, PARTITIONS)

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

    # ---- the gateway ----

    @property
    def provider(self) -> Provider:
        """The fake provider, in the scenes that have one."""
        assert self._provider is not None
        return self._provider

    def environ(self) -> dict[str, str]:
        """Return the settings of the gateway."""
        return {"GATEWAY": SIMULATED} if self._provider is None else self._provider.environ()

    def send_late(self, count: int, times: int | None = 4) -> None:
        """Have the next payments get no answer of the gateway so many times: they are parked.

        Without a number the provider fails until it is cured.
        """
        number = self.rng.getrandbits(48)
        ids = [f"late-{number}-{each}" for each in range(count)]
        if self._provider is None:
            ids = [f"{each}:unavailable:{times}" for each in ids]
        else:
            faults = [Fault.RESET_BEFORE, Fault.UNAVAILABLE, Fault.RESET_AFTER, Fault.HANG_AFTER]
            self._provider.poison(ids, self.rng.choice(faults), times)
        self.load.late = ids

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
        of_last: Mapping[str, str] | None = None,
    ) -> Ensemble:
        """Start the flow; to be used as a context manager."""
        environ = dict(environ or {})
        self._lose_store(directory, environ)
        self.runs += 1
        # What a fault sets counts, as the later one.
        tune = [tuned(self._tune())["TUNE"], environ.pop("TUNE", "")]
        self.last_run = Ensemble(
            self._far,
            self.topics,
            directory or self.directory,
            shape or self.shape,
            {
                "LANES": str(self.lanes),
                **self.environ(),
                "TUNE": ",".join(filter(None, tune)),
                **environ,
            },
            of_last=of_last,
            prefix=prefix,
        )
        return self.last_run

    def _lose_store(self, directory: Path | None, environ: Mapping[str, str]) -> None:
        """Delete the recovery directory before about half of the restarts; count them."""
        if not self.runs:
            return
        in_use = self.last_run is not None and not self.last_run.all_ended
        if directory is None and not self.keeps_store and not in_use:
            is_behind = self.without_store < _WITHOUT_STORE * self.runs
            if self.rng.random() < (_LOST_AT_MOST if is_behind else _LOST_AT_LEAST):
                shutil.rmtree(self.recovery, ignore_errors=True)
        where = environ.get("BYTEWAX_RECOVERY_DIRECTORY")
        store = (directory or self.directory) / "recovery" if where is None else Path(where or "-")
        self.without_store += not store.exists()

    def _tune(self) -> Mapping[Constant, float]:
        return {**TUNED, **_QUICK, **(FILES if self.rng.random() < _WITH_FILES else {})}

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
        where = f"{flow.passed}:\n{flow.log}"
        assert set(flow.passed) == {point}, f"killed, but not at {point}: {where}"
        self.hits[point] += 1
        self.kills += 1

    def carry_on(self, environ: Mapping[str, str] | None = None) -> None:
        """Run without a fault until everything sent so far is decided, and stop in order."""
        with self.run(environ) as flow:
            flow.wait_until_ready()
            self.wait_until_decided(flow)
            flow.stop()

    def decide_everything(self) -> None:
        """Carry on until nothing waits any more but for a person: all of it was looked up."""
        with self.run() as flow:
            flow.wait_until_ready()
            self.wait_until_decided(flow)
            flow.wait(lambda: not flow.has_parked(), "done with what was parked")
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
                assert last is not None
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
        if self._provider is not None:
            self._provider.without_faults()
        self.supervised(self.decide_everything)
        inputs = self.load.sent
        outputs = [read_all(self.kafka, topic) for topic in self.topics.outputs]
        processed, failed, audit = ([event_of(m) for m in messages] for messages in outputs)
        waiting = open_entries(self.kafka, self.topics)
        findings = find(inputs, processed + failed, audit, waiting)
        if self._provider is not None:
            book = self._provider.book()
            found = money.compare(book, requests_in(inputs), processed + failed, waiting)
            findings.counts.update(found.counts)
            findings.problems += found.problems
        findings.problems += verified(self)
        findings.problems += self._follower.differs_from(seen_in([m for ms in outputs for m in ms]))
        findings.problems += [
            f"open transaction: {topic} has one left"
            for topic in self.topics.written
            if has_open_transaction(self.kafka, topic)
        ]
        return findings

    def __enter__(self) -> Self:
        if self._provider is not None:
            self._provider.__enter__()
        self.load.start()
        self._follower.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing running, and give back the topics."""
        self.load.end()
        self._follower.end()
        if self._provider is not None:
            self._provider.stop()
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
        **scene.environ(),
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

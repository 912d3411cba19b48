"""A run of scenes side by side, until everything was struck often enough, or time is up."""

import os
import shutil
import tempfile
import threading
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos import plan
from tests.chaos.catalogue import FAULTS, Fault, NotStruckError, Stage
from tests.chaos.kills import IN_COMMIT
from tests.chaos.plan import Part
from tests.chaos.provider import RATE_SHARE, SIMULATED
from tests.chaos.scene import Scene
from tests.chaos.shapes import HaltedError, Shape, halt
from tests.support.kafka import Broker, Cluster, RemoteBroker, Trio

_FEW_CORES = 4
OFTEN_ENOUGH = 5
"""A fault that struck less often proves little."""
IN_COMMIT_SHARE, IN_COMMIT_LEAST = 1 / 5, 100
"""Of the kills that are wanted, so many are to come inside a commit, and at least so many."""

OpenStage = Callable[[], AbstractContextManager[Cluster]]
STAGES: dict[Stage, OpenStage] = {
    # A broker that gets no processor for a while is not to be taken for dead.
    Stage.ANY: lambda: Broker.start(
        config={"broker.session.timeout.ms": "60000"}, java_options=("-Xmx1g",)
    ),
    Stage.REMOTE: RemoteBroker.start,
    Stage.TRIO: Trio.start,
}


@dataclass(frozen=True)
class Options:
    """The options of the command line.

    Attributes:
        seed: What everything that is left to chance follows from.
        minutes: After these no further fault strikes.
        kills: So many SIGKILLs are wanted.
        shapes: Of the scenes, in turns.
        short: Only a few scenes, each named point once.
        side_by_side: How many scenes run at once on one broker.
        only: The name of the one scene to run, to do again what went wrong.
        stages: The Kafkas to run on.
        faults: Only those whose names have this in them.
        rate: Requests a second in each scene; a third of it where there is a provider.
    """

    seed: int
    minutes: float = 40.0
    kills: int = 300
    shapes: tuple[Shape, ...] = ()
    short: bool = False
    side_by_side: int = 3
    only: str | None = None
    stages: tuple[Stage, ...] = tuple(Stage)
    faults: str = ""
    rate: float = 150.0

    @property
    def often(self) -> int:
        """The number of times each fault is to strike."""
        return 1 if self.short else OFTEN_ENOUGH

    @property
    def kills_in_commit(self) -> int:
        """The number of kills that are to come inside a commit, in a campaign of everything."""
        if self.short or self.partial:
            return 0
        return max(IN_COMMIT_LEAST, int(self.kills * IN_COMMIT_SHARE))

    @property
    def partial(self) -> bool:
        """True if not everything is asked for, so that nothing can be reported as missing."""
        return bool(self.only or self.faults or self.stages != tuple(Stage))


_STAGES_AT_ONCE = len(Stage) if (os.cpu_count() or 1) > _FEW_CORES else len(Stage) - 1
"""On few cores a machine that is too busy would look like a fault."""


@dataclass
class Result:
    """The result so far.

    Attributes:
        struck: How often each fault has struck, and ended as expected, by its name.
        spent_s: How long that took, by the same.
        hits: How often a named point was hit; for named faults, the number of its strikes.
        faults: Runs that ended by a fault while Kafka was disturbed, and were started again.
        by_shape: SIGKILLs by shape.
        by_gateway: SIGKILLs by what the flow charges by.
        restarts: Runs that were not the first of their scene.
        without_store: How many of them began without a recovery directory.
        counts: What was found in the topics.
        problems: What should not be.
    """

    seed: int
    started_s: float = field(default_factory=time.time)
    seconds: float = 0.0
    kills: int = 0
    runs: int = 0
    faults: int = 0
    scenes: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    spent_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    hits: Counter[str] = field(default_factory=Counter)
    by_shape: Counter[str] = field(default_factory=Counter)
    by_gateway: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    without_store: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def kills_in_commit(self) -> int:
        """The kills at named points inside the commit of an epoch."""
        return sum(self.hits[point] for point in IN_COMMIT)

    @property
    def ok(self) -> bool:
        """True if nothing went wrong, and everything was done."""
        return not self.problems and not self.missing


class Campaign:
    """One campaign.

    Args:
        options: What to do.
        kafka: A Kafka to use where any will do; otherwise one is started.
        directory: For everything that the runs leave behind; by default a temporary one, which is
            only kept if there are problems.
    """

    def __init__(
        self, options: Options, kafka: Cluster | None = None, directory: Path | None = None
    ) -> None:
        self.options = options
        self.result = Result(options.seed)
        self.now_playing: dict[str, str] = {}
        """The fault that strikes each scene now."""
        self._kafka = kafka
        self._keep = directory is not None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="chaos-"))
        self._lock = threading.Lock()
        self._deadline = time.monotonic() + options.minutes * 60

    def run(self, tell: Callable[[], None] = lambda: None) -> Result:
        """Do it all; `tell` is called about twice a second meanwhile."""
        started = time.monotonic()
        with ThreadPoolExecutor(_STAGES_AT_ONCE, thread_name_prefix="stage") as pool:
            stages = [pool.submit(self._stage, stage) for stage in self._stages()]
            try:
                while wait(stages, timeout=0.5).not_done:
                    tell()
            except BaseException:
                halt()
                raise
        for stage in stages:
            self._note_crash("stage", stage)
        self.result.seconds = time.monotonic() - started
        self.result.missing = list(self._missing())
        if not self._keep and self.result.ok:
            shutil.rmtree(self.directory, ignore_errors=True)
        return self.result

    def _stages(self) -> list[Stage]:
        return [Stage.ANY] if self.options.short else list(self.options.stages)

    def _stage(self, stage: Stage) -> None:
        """Play the scenes of one stage."""
        parts = self._parts(stage)
        if stage is Stage.ANY:
            self._play_side_by_side(parts)
            return
        # A fault that disturbs Kafka disturbs every scene on it: each has its own.
        while self._goes_on(stage) and (part := next(parts, None)):
            with STAGES[stage]() as kafka:
                self._play(part, kafka)

    def _play_side_by_side(self, parts: Iterator[Part]) -> None:
        lock = threading.Lock()

        def play_on(kafka: Cluster) -> None:
            while self._goes_on(Stage.ANY):
                with lock:
                    part = next(parts, None)
                if part is None:
                    return
                self._play(part, kafka)

        side_by_side = self.options.side_by_side
        with nullcontext(self._kafka) if self._kafka else STAGES[Stage.ANY]() as kafka:
            with ThreadPoolExecutor(side_by_side, thread_name_prefix="scene") as pool:
                players = [pool.submit(play_on, kafka) for _ in range(side_by_side)]
            for player in players:
                self._note_crash(Stage.ANY.name, player)

    def _parts(self, stage: Stage) -> Iterator[Part]:
        options = self.options
        if options.short:
            return iter(plan.short(options.seed, options.shapes))
        parts = plan.endless(stage, options.seed, options.shapes)
        if options.only is None:
            return parts
        if options.only.partition("-")[0] != stage.name.lower():
            return iter(())
        return iter([next(part for part in parts if part.name == options.only)])

    def _goes_on(self, stage: Stage) -> bool:
        """Return whether another scene is needed, and there is time for it."""
        if time.monotonic() > self._deadline:
            return False
        if self.options.short or self.options.only:
            return True
        counts_kills = stage is Stage.ANY and not self.options.faults
        if counts_kills and any(self._missing_kills()):
            return True
        return any(
            self.result.struck[fault.name] < self.options.often
            for fault in FAULTS
            if fault.stage is stage and self.options.faults in fault.name
        )

    def _play(self, part: Part, kafka: Cluster) -> None:
        """Run one scene, from its first request to the last check."""
        faults = [fault for fault in part.faults if self.options.faults in fault.name]
        if not faults:
            return
        directory = self.directory / part.name
        directory.mkdir(parents=True)
        try:
            rate = self.options.rate * (1 if part.gateway == SIMULATED else RATE_SHARE)
            with Scene(kafka, directory, part.shape, part.rng, rate, part.gateway) as scene:
                for fault in faults:
                    if time.monotonic() > self._deadline:
                        break
                    self.now_playing[part.name] = fault.name
                    self._strike(scene, fault)
                self.now_playing[part.name] = "checking"
                findings = scene.finish()
            problems = [f"{part.name}: {each}" for each in findings.problems]
            with self._lock:
                self.result.counts += findings.counts
                self.result.scenes += 1
        except HaltedError:
            raise
        except Exception:  # noqa: BLE001  (whatever it is, it is a finding)
            last = self.now_playing.get(part.name, "setting up")
            problems = [
                f"{part.name}, {part.shape}, {part.gateway}: {last}\n{traceback.format_exc()}"
            ]
        finally:
            self.now_playing.pop(part.name, None)
        with self._lock:
            self.result.problems += problems
        if not problems and not self._keep:
            shutil.rmtree(directory, ignore_errors=True)

    def _strike(self, scene: Scene, fault: Fault) -> None:
        shape, kills, hits, runs = str(scene.shape), scene.kills, scene.hits.copy(), scene.runs
        faults, without_store = scene.faults, scene.without_store
        started = time.monotonic()
        scene.keeps_store = fault.keeps_store
        has_struck = True
        try:
            scene.supervised(lambda: fault.strike(scene))
        except NotStruckError:
            has_struck = False
        with self._lock:
            result = self.result
            result.struck[fault.name] += has_struck
            result.spent_s[fault.name] += time.monotonic() - started
            result.kills += scene.kills - kills
            result.runs += scene.runs - runs
            result.restarts += max(scene.runs, 1) - max(runs, 1)
            result.without_store += scene.without_store - without_store
            result.faults += scene.faults - faults
            result.by_shape[shape] += scene.kills - kills
            result.by_gateway[scene.gateway] += scene.kills - kills
            result.hits += scene.hits - hits
            if fault.point and fault.point not in scene.hits:
                result.hits[fault.point] += 1

    def _missing(self) -> Iterable[str]:
        """Yield what was not done often enough."""
        options, result = self.options, self.result
        if options.partial:
            return
        for point in dict.fromkeys(fault.point for fault in FAULTS if fault.point):
            if result.hits[point] < options.often:
                yield f"{point}: hit {result.hits[point]} times, not {options.often}"
        if options.short:
            return
        for fault in FAULTS:
            if result.struck[fault.name] < options.often:
                yield f"{fault.name}: struck {result.struck[fault.name]} times"
        yield from self._missing_kills()
        if 2 * result.without_store < result.restarts:
            yield f"{result.without_store} of {result.restarts} restarts without a directory"

    def _missing_kills(self) -> Iterable[str]:
        options, result = self.options, self.result
        if result.kills < options.kills:
            yield f"{result.kills} kills, not {options.kills}"
        if result.kills_in_commit < options.kills_in_commit:
            yield f"{result.kills_in_commit} kills inside a commit, not {options.kills_in_commit}"

    def _note_crash(self, where: str, future: "Future[None]") -> None:
        error = future.exception()
        if error is not None and not isinstance(error, HaltedError):
            text = "".join(traceback.format_exception(error))
            self.result.problems.append(f"{where}: {text}")

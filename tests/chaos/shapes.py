"""The flow in any shape: one process or several, with one worker or several."""

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.flow_process import Flow, Topics
from tests.support.kafka import Cluster
from tests.support.kafka.ports import free

ENDS_WITHIN_S = 60.0
"""One process is dead: how long the others may take to notice. Mostly it is a second."""
TIMEOUT_S = 120.0
"""The time for what must happen at last; only a machine under heavy load needs much of it."""
_GRACE_S = 1.0
_MET = "source partition resumes"
"""Only processes that have met all others get so far as to log this."""
# A flow must not outlive the campaign, however that ends.
_WITH_US = ("setpriv", "--pdeathsig", "KILL")


class Shape(NamedTuple):
    """The number of processes, and of workers in each."""

    processes: int = 1
    workers: int = 1

    def __str__(self) -> str:
        """Return it as a table shows it."""
        processes = "1 process" if self.processes == 1 else f"{self.processes} processes"
        return processes if self.workers == 1 else f"{processes}, -w {self.workers}"


SHAPES = {
    "1": Shape(),
    "1w2": Shape(workers=2),
    "2": Shape(processes=2),
    "3": Shape(processes=3),
}
"""By the name that the command line takes."""


class EndedError(AssertionError):
    """A run has ended by itself, when it should have gone on."""


class HaltedError(Exception):
    """The campaign was asked to stop."""


_halted = threading.Event()
_live: set["Ensemble"] = set()


def halt() -> None:
    """Kill every run there is, and let no other begin."""
    _halted.set()
    for ensemble in list(_live):
        ensemble.__exit__()


class Ensemble:
    """All processes of one execution. As a context manager it kills what is left of them."""

    def __init__(
        self,
        kafka: Cluster,
        topics: Topics,
        directory: Path,
        shape: Shape,
        environ: Mapping[str, str],
        *,
        of_last: Mapping[str, str] | None = None,
        commit_interval: str = "20ms",
        prefix: Sequence[str] = (),
    ) -> None:
        """Start them; the last of them may have variables of its own."""
        if _halted.is_set():
            raise HaltedError
        addresses = ";".join(f"127.0.0.1:{port}" for port in free(shape.processes))
        self.mark = directory / f"mark-{time.monotonic_ns()}"
        environ = {"CRASH_MARK": str(self.mark), **environ}
        workers = ["-w", str(shape.workers)]
        self.flows = [
            Flow(
                kafka,
                topics,
                directory,
                *workers,
                *(["-i", str(number), "-a", addresses] if shape.processes > 1 else []),
                environ={**environ, **((of_last or {}) if number == shape.processes - 1 else {})},
                commit_interval=commit_interval,
                prefix=[*_WITH_US, *prefix],
            )
            for number in range(shape.processes)
        ]
        _live.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _live.discard(self)
        for flow in self.flows:
            flow.kill()

    @property
    def log(self) -> str:
        """The last lines of all processes."""
        return "\n".join(f"-- {flow.log_path}\n{flow.log[-3000:]}" for flow in self.flows)

    def has_logged(self, text: str) -> bool:
        """Return whether one of its processes has ever logged this."""
        return any(text in flow.log for flow in self.flows)

    @property
    def passed(self) -> list[str]:
        """The named points at which processes of it have crashed."""
        return self.mark.read_text().split() if self.mark.exists() else []

    @property
    def ended(self) -> bool:
        """True if a process has ended."""
        return any(flow.process.poll() is not None for flow in self.flows)

    @property
    def all_ended(self) -> bool:
        """True if no process of it is left."""
        return all(flow.process.poll() is not None for flow in self.flows)

    def has_parked(self) -> bool:
        """Return whether a payment waits for the gateway, and not for a person."""
        figures = [flow.health().get("charging") for flow in self.flows]
        return any(each is None or each["pending"] > each["unresolved"] for each in figures)

    def is_held(self) -> bool:
        """Return whether one of its processes holds because of the gateway."""
        return any(each == "held" for each in self._states())

    def are_all_held(self) -> bool:
        """Return whether all of them do."""
        return all(each == "held" for each in self._states())

    def _states(self) -> list[str | None]:
        return [flow.health().get("status") for flow in self.flows]

    def decided(self) -> int:
        """Return how many records are decided for good, as all processes together report it."""
        return sum(flow.decided() for flow in self.flows)

    def wait_until_ready(self) -> None:
        """Wait until every process is."""
        self.wait(lambda: all(flow.get("/ready")[0] == 200 for flow in self.flows), "ready")

    def wait_until_ready_or_ended(self) -> None:
        """Wait until every process is ready, or one has ended."""
        with suppress(EndedError):
            self.wait_until_ready()

    def wait(self, done: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
        """Wait for something; all processes must live until then."""
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.ended and not done():
                raise EndedError(f"ended before it was {what}:\n{self.log}")
            assert time.monotonic() < deadline, f"not {what} within {timeout_s:g} s:\n{self.log}"
            time.sleep(0.1)

    def wait_for_end(self, timeout_s: float = TIMEOUT_S) -> list[int]:
        """Wait until the first process has ended, then all of them; their exit codes.

        A process that had not met all others by then would go on to wait for the one that has
        ended, until that is started again. Their supervisor ends it instead.
        """
        deadline = time.monotonic() + timeout_s
        while not self.ended:
            assert time.monotonic() < deadline, f"nothing ended in {timeout_s:g} s:\n{self.log}"
            time.sleep(0.05)
        if len(self.flows) > 1 and not self._have_met():
            time.sleep(_GRACE_S)
            for flow in self.flows:
                if _MET not in flow.log:
                    flow.kill()
        return [flow.wait_for_exit(ENDS_WITHIN_S) for flow in self.flows]

    def _have_met(self) -> bool:
        return all(_MET in flow.log for flow in self.flows)

    def kill_one(self, number: int) -> None:
        """Kill one of the processes, and see all others end."""
        self.flows[number].process.kill()
        codes = self.wait_for_end()
        assert 0 not in codes, f"exit codes {codes}: one ended as if all were well:\n{self.log}"

    def stop(self) -> None:
        """Stop one of them; all of them stop, in order."""
        self.flows[0].process.terminate()
        codes = self.wait_for_end()
        if any(codes):
            raise EndedError(f"exit codes {codes} after SIGTERM:\n{self.log}")

    def refusal(self) -> str:
        """Wait until it has ended, and return why it refused to start."""
        codes = self.wait_for_end()
        reasons = self.reasons("refused to start")
        assert 0 not in codes, f"exit codes {codes}:\n{self.log}"
        assert reasons, f"no refusal:\n{self.log}"
        return reasons[0]

    def reasons(self, event: str) -> list[str]:
        """Return why processes of it have ended, as they logged it."""
        return [
            entry["reason"]
            for flow in self.flows
            for entry in _entries(flow)
            if entry["level"] == "critical" and entry["event"] == event
        ]

    def fault_kinds(self) -> set[str]:
        """Return the kinds of faults that its processes have logged.

        Not counting that a process has lost another one, which the engine reports by a panic.
        """
        kinds = {
            entry["kind"]
            for flow in self.flows
            for entry in _entries(flow)
            if entry["event"] == "fault"
        }
        return kinds - {"PanicException"} if len(self.flows) > 1 else kinds


def is_stopped(pid: int) -> bool:
    """Return whether a process is suspended by a signal."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "T"


def without_override() -> list[str]:
    """Return a prefix for commands that takes away root's right to ignore a file's mode."""
    return ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


def _entries(flow: Flow) -> list[dict[str, Any]]:
    """Return the log's own lines; the engine's last words, after a panic, are passed over."""
    return [json.loads(line) for line in flow.log.splitlines() if line.startswith("{")]

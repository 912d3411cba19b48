"""The course of a demo: start, send, stop sending, drain, stop the flow."""

import time
from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

from dataflow.config.settings import KafkaSettings
from dataflow.demo.accounts import DemoAccounts, Totals
from dataflow.demo.clients import AuditReader, Load, request_ends
from dataflow.demo.flow_process import FlowDiedError, FlowProcess
from dataflow.demo.provider import DemoProvider
from dataflow.demo.snapshot import Rate, Snapshot, View
from dataflow.demo.stop import Stop
from dataflow.demo.traffic import Traffic
from schemas.events import EVENT_OVERHEAD_BYTES

_TICK_S = 0.2
_SENDING = "sending; Ctrl-C stops"
_START_S = 90.0
"""On a shared broker there may be a backlog to replay, and coordinators to elect."""
_DRAIN_S = 30.0
_STOP_S = 30.0


class Options(NamedTuple):
    """The options that the arguments ask for."""

    rate: float
    """Requests per second."""
    seconds: float | None
    """The time to send for; None is until asked to stop."""
    seed: int
    plain: bool
    gateway: str
    """`simulated`, or `http` for a provider that fails now and then."""


class Demo:
    """One run, with everything it needs at hand."""

    def __init__(
        self,
        kafka: KafkaSettings,
        flow: FlowProcess,
        view: View,
        stop: Stop,
        options: Options,
        provider: DemoProvider | None = None,
    ) -> None:
        traffic = Traffic(options.seed, kafka.message_max_bytes - EVENT_OVERHEAD_BYTES)
        self._flow = flow
        self._view = view
        self._provider = provider
        self._stop = stop
        self._seconds = options.seconds or inf
        self._accounts = DemoAccounts(request_ends(kafka))
        self._audit = AuditReader(kafka, self._accounts)
        self._load = Load(kafka, traffic, options.rate, self._accounts)
        self._began_s = time.monotonic()
        self._sent, self._audited = Rate(), Rate()

    def run(self) -> Totals:
        """Run from the flow's start to its end; return what there was.

        Raises:
            FlowDiedError: the flow did not do its part.
        """
        ready = self._wait_until_ready()
        if ready:
            self._load.start()
            self._watch(_SENDING, lambda: self._stop.asked, self._seconds)
            self._load.stop()
            self._watch("waiting for the broker", lambda: self._load.ended, _DRAIN_S)
            self._watch("waiting for the last outcomes", self._is_complete, _DRAIN_S)
        self._end_flow(cleanly=ready)
        self._audit.stop()
        return self._accounts.totals()

    def _wait_until_ready(self) -> bool:
        """Wait until the flow is ready; return False if we were asked to stop before."""

        def over() -> bool:
            return self._stop.asked or self._is_ready()

        if not self._watch("waiting for the flow to be ready", over, _START_S):
            raise FlowDiedError(f"the flow was not ready within {_START_S:g} s")
        return not self._stop.asked

    def _is_ready(self) -> bool:
        return bool(self._flow.health().get("ready"))

    def _is_complete(self) -> bool:
        return self._accounts.totals().open == 0

    def _end_flow(self, *, cleanly: bool) -> None:
        self._flow.terminate()
        ended = self._watch("stopping the flow", lambda: self._flow.exit_code is not None, _STOP_S)
        if not ended and not self._stop.at_once:
            raise FlowDiedError(f"the flow did not end within {_STOP_S:g} s of SIGTERM")
        # Before it is ready it may not have taken over the signal yet, and just be gone.
        if ended and self._flow.exit_code != 0 and cleanly:
            raise FlowDiedError(f"the flow ended with exit code {self._flow.exit_code}")

    def _watch(self, doing: str, until: Callable[[], bool], at_most_s: float) -> bool:
        """Show what happens until something has; False when it takes too long."""
        deadline_s = time.monotonic() + at_most_s
        while not until():
            if self._flow.exit_code is not None:
                raise FlowDiedError(f"the flow has ended with exit code {self._flow.exit_code}")
            if time.monotonic() > deadline_s or self._stop.at_once:
                return False
            self._view.show(self._snapshot(doing))
            time.sleep(_TICK_S)
        return True

    def _snapshot(self, doing: str) -> Snapshot:
        now_s = time.monotonic()
        elapsed_s = now_s - self._began_s
        totals, health = self._accounts.totals(), self._flow.health()
        state = health.get("status", "starting")
        return Snapshot(
            elapsed_s=elapsed_s,
            state="ready" if state == "ok" else state,
            doing=doing,
            totals=totals,
            sent_rate=self._sent.at(now_s, totals.sent_total),
            audited_rate=self._audited.at(now_s, totals.audited_total),
            lags=_lags(totals, health),
            provider=self._provider.at(elapsed_s, may_fail=doing == _SENDING)
            if self._provider
            else "",
        )


def _lags(totals: Totals, health: dict[str, Any]) -> dict[int, int]:
    """Return the distance from what `/health` has as committed to where the partitions end *now*.

    The lag in `/health` is that of the moment an epoch closed.
    """
    committed = {
        partition: health.get("partitions", {}).get(str(partition), {}).get("committed")
        for partition in totals.ends
    }
    return {
        partition: max(0, totals.ends[partition] - offset)
        for partition, offset in committed.items()
        if offset is not None
    }

"""The constants of the product that tests set, so that they need not wait for long."""

from collections.abc import Mapping

from dataflow import rotation, runtime
from dataflow.core import (
    answer_latency,
    batch_size,
    hold,
    offset_refresh,
    persons_decisions,
    retry_schedule,
    silence,
)
from dataflow.dedupe import tiered
from dataflow.kafka import commit_pool, lane_log_trimmer, preflight, retry, watcher
from tests.support.hooks.references import Reference, place_of

_BY_NAME: dict[str, "Constant"] = {}


class Constant:
    """One of them; its name is `<module>:<name>`."""

    def __init__(self, reference: Reference) -> None:
        self._place = place_of(reference)
        assert isinstance(self._place.value, int | float)
        _BY_NAME[str(self)] = self

    def __str__(self) -> str:
        return f"{self._place.owner.__name__}:{self._place.name}"

    def set(self, value: float) -> None:
        """Set it, in this process."""
        self._place.replace(type(self._place.value)(value))


COMMITS_AT_ONCE = Constant(lambda: commit_pool._COMMITS_AT_ONCE)
FIRST_BATCH = Constant(lambda: batch_size.FIRST)
FRESH_S = Constant(lambda: silence.FRESH_S)
GENERATION_SHARE = Constant(lambda: tiered._GENERATION_SHARE)
LATENCY_GUESS_S = Constant(lambda: answer_latency._GUESS_S)
KEY_MARGIN_S = Constant(lambda: retry_schedule.KEY_MARGIN_S)
PARKED_UNIT_S = Constant(lambda: retry_schedule.PARKED_UNIT_S)
PROBE_LEAST_S = Constant(lambda: hold.PROBE_LEAST_S)
PROBE_MOST_S = Constant(lambda: hold.PROBE_MOST_S)
TRIAL_LEAST_S = Constant(lambda: hold.TRIAL_LEAST_S)
STARTUP_GRACE_S = Constant(lambda: runtime._STARTUP_GRACE_S)
QUIET_S = Constant(lambda: persons_decisions.QUIET_S)
SECRETS_CHECK_EVERY_S = Constant(lambda: rotation._CHECK_EVERY_S)
SECRETS_DELAY_LEAST_S = Constant(lambda: rotation._DELAY_LEAST_S)
SECRETS_JITTER_S = Constant(lambda: rotation._JITTER_S)
SECRETS_LOOK_EVERY_S = Constant(lambda: rotation._LOOK_EVERY_S)
REFRESH_OFFSETS_EVERY_S = Constant(lambda: offset_refresh._EVERY_S)
RETRY_AT_MOST_S = Constant(lambda: retry._AT_MOST_S)
STALLED_S = Constant(lambda: silence.STALLED_S)
START_TIMEOUT_S = Constant(lambda: preflight._START_TIMEOUT_S)
SUSPECT_S = Constant(lambda: silence.SUSPECT_S)
UNRESOLVED_AFTER_S = Constant(lambda: retry_schedule.UNRESOLVED_AFTER_S)
TRIM_APART_S = Constant(lambda: lane_log_trimmer._APART_S)
TRIM_LEAST_S = Constant(lambda: lane_log_trimmer._TRIM_LEAST_S)
WATCH_EVERY_S = Constant(lambda: watcher._WATCH_EVERY_S)


def tuned(constants: Mapping[Constant, float]) -> dict[str, str]:
    """Return the variable that sets these constants in a flow."""
    return {"TUNE": ",".join(f"{constant}={value}" for constant, value in constants.items())}


SMALL_MEMORY = {"DEDUPE_MEMORY": "16MB", **tuned({GENERATION_SHARE: 1e9})}
"""The environment of a flow in which every lane makes a file of ids in every epoch."""


def tune(variable: str) -> None:
    """Set the constants that are in the variable."""
    for each in filter(None, variable.split(",")):
        name, _, value = each.partition("=")
        _BY_NAME[name].set(float(value))

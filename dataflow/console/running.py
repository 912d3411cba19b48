"""The frame of a tool that works on the flow's cluster: settings, errors, and the exit code."""

# ruff: noqa: T201 -- what a command prints is its interface

import sys
from collections.abc import Callable, Mapping

from dataflow.config.settings import Settings
from dataflow.console.progress import Progress
from dataflow.errors import Fault, SettingsError
from dataflow.kafka.topic_scan import AsJson
from dataflow.observability import logs
from dataflow.schema_registry import extra

NOT_POSSIBLE, INTERRUPTED = 2, 130
"""Exit codes of all such tools."""
_EXTRA_TIMEOUT_S = 10.0


def run(
    environ: Mapping[str, str], work: Callable[[Settings, Progress], int], *, charges: bool = False
) -> int:
    """Return the exit code of `work`, which gets the settings of the flow.

    Args:
        environ: The environment, as the flow has it.
        work: The tool; its faults are printed, without a traceback.
        charges: Whether it uses the gateway, so that `GATEWAY` has to be set.
    """
    logs.configure("error")
    try:
        # Else the choice that only the user can make is not asked for.
        settings = Settings.from_env(environ if charges else {"GATEWAY": "simulated", **environ})
    except SettingsError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return NOT_POSSIBLE
    progress = Progress()
    try:
        return work(settings, progress)
    except (Fault, OSError) as error:
        progress.end()
        print(error, file=sys.stderr)
        return NOT_POSSIBLE
    except KeyboardInterrupt:
        progress.end()
        return INTERRUPTED


def as_json(settings: Settings) -> AsJson | None:
    """Return what turns records that name a schema into JSON; None without a schema registry."""
    if settings.schema_registry.url is None:
        return None
    found: AsJson = extra.load("topics").TopicsAsJson(settings)
    return found


def timeout_s(settings: Settings, given_s: float | None) -> float:
    """Return how long to wait for an open transaction to end."""
    if given_s is not None:
        return given_s
    return settings.kafka.transaction_timeout_ms / 1000 + _EXTRA_TIMEOUT_S

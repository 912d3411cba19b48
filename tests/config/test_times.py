"""The pairs of times that must fit each other: which are refused, and what works instead."""

import re

import pytest

from dataflow.config.settings import Settings
from dataflow.config.times import Keys, misfits
from tests.support.required import REQUIRED

HOUR_S = 3600.0
FOR_EVER = Keys(None, HOUR_S, has_lookup=False)
DEFAULTS: dict[str, str] = {}
OF_A_CLASS = {"GATEWAY": "acme.gateway:AcmeGateway"}


def keys(hours: float, *, has_lookup: bool = True) -> Keys:
    return Keys(hours * HOUR_S, HOUR_S, has_lookup=has_lookup)


def found(environ: dict[str, str], given: Keys) -> list[str]:
    return list(misfits(Settings.from_env(REQUIRED | environ), given))


FITS = [
    (DEFAULTS, FOR_EVER),
    (DEFAULTS, keys(24)),
    (DEFAULTS, keys(24, has_lookup=False)),
    # liveness and epochs, to the millisecond
    ({"LIVENESS_TIMEOUT": "3s", "COMMIT_INTERVAL": "1s"}, FOR_EVER),
    ({"LIVENESS_TIMEOUT": "1s", "COMMIT_INTERVAL": "333ms"}, FOR_EVER),
    # a stop
    ({"STOP_GRACE_PERIOD": "85s"}, FOR_EVER),
    ({"STOP_GRACE_PERIOD": "", "KAFKA_TRANSACTION_TIMEOUT": "15m"}, FOR_EVER),
    # the window, and what waits
    ({"DEDUPE_WINDOW": "5s", **OF_A_CLASS}, FOR_EVER),
    ({"DEDUPE_WINDOW": "1s", "GATEWAY_PARK_AFTER": "60s"}, FOR_EVER),
    # the window and the keys
    ({"DEDUPE_WINDOW": "24h"}, keys(24)),
    ({"DEDUPE_WINDOW": "1s"}, FOR_EVER),
    # a short life is safe with a lookup, and enough if a lane is done with a payment by then
    (DEFAULTS, keys(0.5)),
    ({"GATEWAY_PARK_AFTER": "60s"}, keys(61.1 / 60, has_lookup=False)),
    # pairs that fit with any values: nothing that has a limit waits for the other one
    ({"GATEWAY_TIMEOUT": "80s", "GATEWAY_PARK_AFTER": "1s"}, keys(24)),
    ({"GATEWAY_TIMEOUT": "100ms", "GATEWAY_PARK_AFTER": "60s"}, keys(24)),
    ({"GATEWAY_TIMEOUT": "80s", "KAFKA_TRANSACTION_TIMEOUT": "10s"}, keys(24)),
    ({"GATEWAY_TIMEOUT": "80s", "LIVENESS_TIMEOUT": "1s"}, keys(24)),
    ({"GATEWAY_PARK_AFTER": "60s", "KAFKA_TRANSACTION_TIMEOUT": "10s"}, keys(24)),
    ({"GATEWAY_PARK_AFTER": "60s", "LIVENESS_TIMEOUT": "1s"}, keys(24)),
    ({"KAFKA_TRANSACTION_TIMEOUT": "15m", "LIVENESS_TIMEOUT": "1s"}, keys(24)),
    ({"COMMIT_INTERVAL": "1s", "GATEWAY_PARK_AFTER": "1s", "DEDUPE_WINDOW": "1s"}, FOR_EVER),
    ({"DEDUPE_WINDOW": "1m", "KAFKA_TRANSACTION_TIMEOUT": "15m", **OF_A_CLASS}, FOR_EVER),
    ({"DEDUPE_WINDOW": "5s", "GATEWAY_TIMEOUT": "80s", **OF_A_CLASS}, FOR_EVER),
]


@pytest.mark.parametrize(("environ", "given"), FITS)
def test_times_that_fit_are_accepted(environ: dict[str, str], given: Keys) -> None:
    assert found(environ, given) == []


MISFITS = [
    (
        {"LIVENESS_TIMEOUT": "1s", "COMMIT_INTERVAL": "1s"},
        FOR_EVER,
        ["LIVENESS_TIMEOUT: 1s", "COMMIT_INTERVAL (1s)"],
    ),
    (
        {"LIVENESS_TIMEOUT": "1s", "COMMIT_INTERVAL": "334ms"},
        FOR_EVER,
        ["LIVENESS_TIMEOUT: 1s", "COMMIT_INTERVAL (334ms)"],
    ),
    (
        {"STOP_GRACE_PERIOD": "84s"},
        FOR_EVER,
        ["STOP_GRACE_PERIOD: 84s", "GATEWAY_PARK_AFTER (5s)", "KAFKA_TRANSACTION_TIMEOUT (1m)"],
    ),
    (
        {
            "STOP_GRACE_PERIOD": "90s",
            "GATEWAY_PARK_AFTER": "60s",
            "KAFKA_TRANSACTION_TIMEOUT": "10001ms",
        },
        FOR_EVER,
        ["STOP_GRACE_PERIOD: 90s", "GATEWAY_PARK_AFTER (1m)", "TIMEOUT (10001ms)"],
    ),
    (
        {"DEDUPE_WINDOW": "4999ms", **OF_A_CLASS},
        FOR_EVER,
        ["DEDUPE_WINDOW: 4999ms", "GATEWAY_PARK_AFTER (5s)"],
    ),
    ({"DEDUPE_WINDOW": "24h"}, keys(24.5), ["DEDUPE_WINDOW: 1d", "payment provider (24.5h)"]),
]


@pytest.mark.parametrize(("environ", "given", "names"), MISFITS)
def test_times_that_do_not_fit_are_named_with_their_values_and_one_that_works(
    environ: dict[str, str], given: Keys, names: list[str]
) -> None:
    [problem] = found(environ, given)
    assert [name for name in names if name not in problem] == []
    [(name, value)] = re.findall(r"example: ([A-Z_]+)=(\w+)", problem)
    assert problem.startswith(f"{name}: ")
    assert found({**environ, name: value}, given) == []


@pytest.mark.parametrize(
    ("hours", "park_after"), [(0.5, "5s"), (1, "1s"), (1.001, "5s"), (61 / 60, "60s")]
)
def test_keys_that_are_old_before_a_lane_gives_up_need_a_lookup(
    hours: float, park_after: str
) -> None:
    """Without one, nobody finds out what became of a payment without an answer."""
    environ = {"GATEWAY_PARK_AFTER": park_after}
    [problem] = found(environ, keys(hours, has_lookup=False))
    assert problem.startswith("GATEWAY: the provider has no lookup")
    assert f" {hours:g}h " in problem
    assert "GATEWAY_PARK_AFTER (" in problem
    [example] = re.findall(r"example: life_hours=(\d+)", problem)
    assert found(environ, keys(float(example), has_lookup=False)) == []
    assert found(environ, keys(hours)) == []


def test_keys_that_outlive_every_window_have_no_example() -> None:
    longest = {"DEDUPE_WINDOW": "366d"}
    assert found(longest, keys(366 * 24)) == []
    [problem] = found(longest, keys(366 * 24 + 1))
    assert problem.startswith("DEDUPE_WINDOW: 366d is shorter")
    assert problem.endswith("; no window is that long")


def test_all_misfits_come_at_once() -> None:
    environ = {
        "LIVENESS_TIMEOUT": "1s",
        "COMMIT_INTERVAL": "1s",
        "STOP_GRACE_PERIOD": "30s",
        "DEDUPE_WINDOW": "15m",
    }
    problems = found(environ, keys(0.5, has_lookup=False))
    assert [problem.partition(":")[0] for problem in problems] == [
        "LIVENESS_TIMEOUT",
        "STOP_GRACE_PERIOD",
        "DEDUPE_WINDOW",
        "GATEWAY",
    ]

"""The time settings that must fit each other: a start with a pair that does not is refused.

    must be at least          that                          otherwise
    LIVENESS_TIMEOUT          3 COMMIT_INTERVALs            a healthy process is restarted
    STOP_GRACE_PERIOD         GATEWAY_PARK_AFTER and        a stop is cut off before its last
                              KAFKA_TRANSACTION_TIMEOUT,    commit
                              and 20 s
    DEDUPE_WINDOW             GATEWAY_PARK_AFTER            a copy is decided, too, while the first
                                                            one waits
    DEDUPE_WINDOW             the life of the provider's    a late copy is published as processed,
                              keys                          and nobody charged
    the life of these keys,   GATEWAY_PARK_AFTER and the    payments wait for a person
    without a lookup          margin, and a bit more

All other pairs fit with any values; docs/configuration.md has the reason for each.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

from dataflow.config import gateway_names
from dataflow.config.settings import Settings
from dataflow.config.variables import VARIABLES

LEAST_INTERVALS = 3
"""An idle flow closes an epoch in each interval; one may be late by as much, and take as long."""
STOP_EXTRA_S = 20.0
"""For the client's own grace after a commit, the gateway's connections, and the engine's end."""
_HOUR_S = 3600.0


class Keys(NamedTuple):
    """The idempotency keys at the payment provider."""

    life_s: float | None
    """None: for ever."""
    margin_s: float
    """At the end of its life a key is not posted any more for so long."""
    has_lookup: bool


def misfits(settings: Settings, keys: Keys) -> Iterator[str]:
    """Yield a problem for each pair that does not fit: both names and values, and what works."""
    yield from _short_liveness(settings)
    yield from _short_grace(settings)
    yield from _forgetful_window(settings)
    if keys.life_s is not None:
        yield from _short_window(settings, keys.life_s)
        yield from _short_life(settings, keys.life_s, keys)


def _short_liveness(settings: Settings) -> Iterator[str]:
    least_s = LEAST_INTERVALS * settings.commit_interval_s
    if settings.liveness_timeout_s < least_s:
        shown = settings.masked()
        yield (
            f"LIVENESS_TIMEOUT: {shown['LIVENESS_TIMEOUT']} is less than {LEAST_INTERVALS} times"
            f" COMMIT_INTERVAL ({shown['COMMIT_INTERVAL']}): an epoch closes once in an interval,"
            " so a healthy process would be restarted; example:"
            f" LIVENESS_TIMEOUT={_seconds(least_s)}"
        )


def _short_grace(settings: Settings) -> Iterator[str]:
    timeout_s = settings.kafka.transaction_timeout_ms / 1000
    least_s = settings.gateway.park_after_s + timeout_s + STOP_EXTRA_S
    if settings.stop_grace_s is not None and settings.stop_grace_s < least_s:
        shown = settings.masked()
        yield (
            f"STOP_GRACE_PERIOD: {shown['STOP_GRACE_PERIOD']} is less than a stop may take:"
            f" GATEWAY_PARK_AFTER ({shown['GATEWAY_PARK_AFTER']}), KAFKA_TRANSACTION_TIMEOUT"
            f" ({shown['KAFKA_TRANSACTION_TIMEOUT']}) and {STOP_EXTRA_S:g} s; the process would be"
            " killed before its last commit; example:"
            f" STOP_GRACE_PERIOD={_seconds(least_s)}, and as much where the process is run"
        )


def _forgetful_window(settings: Settings) -> Iterator[str]:
    """Refuse a window that is over before a payment is parked, and its id kept by that.

    The simulated gateway answers at once, and charges nobody.
    """
    window_s, least_s = settings.dedupe_window_ms / 1000, settings.gateway.park_after_s
    if settings.gateway.name != gateway_names.SIMULATED and window_s < least_s:
        shown = settings.masked()
        yield (
            f"DEDUPE_WINDOW: {shown['DEDUPE_WINDOW']} is shorter than GATEWAY_PARK_AFTER"
            f" ({shown['GATEWAY_PARK_AFTER']}): a paymentId would be forgotten while its payment"
            f" waits for the gateway; example: DEDUPE_WINDOW={_seconds(least_s)}"
        )


def _short_window(settings: Settings, life_s: float) -> Iterator[str]:
    """Refuse a window in which the provider remembers a key for longer than we do its paymentId.

    A copy after the window would be a new payment to us, and a replay to the provider: an approval
    without money.
    """
    if settings.dedupe_window_ms < life_s * 1000:
        window = f"{math.ceil(life_s / _HOUR_S)}h"
        remedy = (
            f"example: DEDUPE_WINDOW={window}"
            if _is_right("DEDUPE_WINDOW", window)
            else "no window is that long"
        )
        yield (
            f"DEDUPE_WINDOW: {settings.masked()['DEDUPE_WINDOW']} is shorter than the life of an"
            f" idempotency key at the payment provider ({_hours(life_s)}): a copy of a payment that"
            f" comes in between would be published as processed, and nobody charged; {remedy}"
        )


def _short_life(settings: Settings, life_s: float, keys: Keys) -> Iterator[str]:
    """Refuse keys that may be too old to be posted while a lane still waits for the answer.

    With a lookup they are safe, and only slow: each payment is looked up before it is posted.
    """
    least_s = keys.margin_s + settings.gateway.park_after_s
    if not keys.has_lookup and life_s <= least_s:
        yield (
            f"GATEWAY: the provider has no lookup, and keeps idempotency keys for {_hours(life_s)}"
            " (life_hours of a mapping, or key_life_s of a class); less the"
            f" {_hours(keys.margin_s)} in which an old key is not posted, that is no longer than"
            f" GATEWAY_PARK_AFTER ({settings.masked()['GATEWAY_PARK_AFTER']}): payments would wait"
            f" for a person; example: life_hours={math.floor(least_s / _HOUR_S) + 1}, but only if"
            " the provider keeps keys that long; otherwise give the gateway a lookup"
        )


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds)}s"


def _hours(seconds: float) -> str:
    return f"{seconds / _HOUR_S:g}h"


def _is_right(name: str, text: str) -> bool:
    [variable] = [variable for variable in VARIABLES if variable.name == name]
    try:
        variable.read({name: text})
    except ValueError:
        return False
    return True

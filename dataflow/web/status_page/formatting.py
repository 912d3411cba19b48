"""Numbers as a person reads them. All of them are safe in HTML."""

UNKNOWN = "–"

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400
_TENTHS_BELOW = 10


def count(number: int) -> str:
    """Return 12345 as 12,345."""
    return f"{number:,}"


def rate(number: int, seconds: int) -> str:
    """Return so many in so many seconds, as a rate per second."""
    value = number / seconds
    return f"{value:.1f}" if 0 < value < _TENTHS_BELOW else f"{value:,.0f}"


def percent(part: int, whole: int) -> str:
    """Cut, not rounded: 100 % only stands for all."""
    if not whole:
        return UNKNOWN
    permille = part * 1000 // whole
    return f"{permille // 10} %" if permille % 10 == 0 else f"{permille / 10:.1f} %"


def age(seconds: float | None) -> str:
    """Return 3725 as 1 h 2 min; None, of what has not happened yet, as never."""
    if seconds is None:
        return "never"
    if seconds < _TENTHS_BELOW:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _MINUTE_S:
        return f"{whole} s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"

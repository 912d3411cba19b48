"""The curves of a recorded outage, in one SVG file that needs no style or script."""

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise
from typing import Any

_WIDTH, _HEIGHT, _LEFT, _TOP, _GAP = 860, 84, 70, 44, 34
_FONT = 'font-family="system-ui, sans-serif"'
Scale = Callable[[float], float]
"""A position of a moment, in pixels from the left."""
_CURVES = (
    ("rate", "outcomes a second", "#1b6ca8"),
    ("lag", "lag, records", "#8250a8"),
    ("oldest_s", "oldest request, seconds", "#8250a8"),
    ("parked", "parked payments", "#b5651d"),
    ("window", "calls that may be in flight", "#1b7f5a"),
)


def draw(recording: dict[str, Any]) -> str:
    """Return the picture of a recording."""
    samples: list[dict[str, float]] = [
        dict(zip(recording["fields"], sample, strict=True)) for sample in recording["samples"]
    ]
    seconds = max(each["seconds"] for each in samples)

    def x(at_s: float) -> float:
        return _LEFT + _WIDTH * at_s / seconds

    bottom = _TOP + len(_CURVES) * (_HEIGHT + _GAP)
    parts = [_band(x, recording["outage_s"], bottom)]
    parts += [_held(x, samples)]
    for number, (field, title, colour) in enumerate(_CURVES):
        top = _TOP + 18 + number * (_HEIGHT + _GAP)
        points = [(x(each["seconds"]), float(each[field])) for each in samples]
        parts.append(_curve(points, title, colour, top))
    parts += [_text(x(at), bottom + 14, f"{at} s", "middle") for at in _ticks(seconds)]
    width, height = _LEFT + _WIDTH + 20, bottom + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="An outage of the payment provider">'
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )


def _band(x: Scale, outage_s: Sequence[float], bottom: int) -> str:
    left, right = x(outage_s[0]), x(outage_s[1])
    return (
        f'<rect class="outage" x="{left:.1f}" y="{_TOP - 24}" width="{right - left:.1f}"'
        f' height="{bottom - _TOP + 24}" fill="#f6dcd8"/>'
        + _text((left + right) / 2, _TOP - 28, "the provider refuses connections", "middle")
    )


def _held(x: Scale, samples: Sequence[dict[str, float]]) -> str:
    """Return a bar of the time in which the flow holds."""
    bars = [_text(_LEFT - 8, _TOP - 8, "held", "end")]
    for one, other in pairwise(samples):
        if other["held"]:
            left, right = x(one["seconds"]), x(other["seconds"])
            bars.append(
                f'<rect class="held" x="{left:.1f}" y="{_TOP - 18}" width="{right - left:.1f}"'
                ' height="12" fill="#b3261e"/>'
            )
    return "".join(bars)


def _curve(points: Sequence[tuple[float, float]], title: str, colour: str, top: int) -> str:
    highest = max(value for _, value in points) or 1.0
    line = " ".join(f"{at:.1f},{top + _HEIGHT * (1 - value / highest):.1f}" for at, value in points)
    base = top + _HEIGHT
    return (
        f'<line x1="{_LEFT}" y1="{base}" x2="{_LEFT + _WIDTH}" y2="{base}" stroke="#c8ccd2"/>'
        f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        + _text(_LEFT - 8, top + 8, f"{highest:,.0f}", "end")
        + _text(_LEFT - 8, base, "0", "end")
        + _text(_LEFT + 4, top - 4, title, "start")
    )


def _ticks(seconds: float) -> range:
    return range(0, int(seconds) + 1, 10 if seconds < 200 else 60)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} font-size="11" fill="#3a4350"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )

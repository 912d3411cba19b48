"""The outcomes of the last minutes as bars, in SVG that the page's style colours."""

from collections.abc import Callable

from dataflow.core.commit_counts import CommitCounts
from dataflow.web.status_page.formatting import rate

_WIDTH, _HEIGHT = 600, 120
_BAR_S = 5
_PARTS: dict[str, Callable[[CommitCounts], int]] = {
    "processed": lambda counts: counts.processed,
    "duplicates": lambda counts: counts.duplicates,
    "failed": lambda counts: sum(counts.failed.values()),
    "conflicts": lambda counts: counts.conflicts,
}
"""From the bottom to the top."""


def chart(seconds: list[CommitCounts]) -> str:
    """Return a bar for every five of these seconds, oldest first."""
    bars = [
        [sum(map(of, seconds[start : start + _BAR_S])) for of in _PARTS.values()]
        for start in range(0, len(seconds), _BAR_S)
    ]
    highest = max(map(sum, bars))
    scale, width = _HEIGHT / max(highest, 1), _WIDTH / len(bars)
    rectangles = []
    for number, bar in enumerate(bars):
        bottom = float(_HEIGHT)
        for name, value in zip(_PARTS, bar, strict=True):
            if value:
                bottom -= value * scale
                rectangles.append(
                    f'<rect class="{name}" x="{number * width + 1:g}" y="{bottom:.1f}"'
                    f' width="{width - 2:g}" height="{max(value * scale, 1):.1f}"/>'
                )
    top = rate(highest, _BAR_S)
    minutes = len(seconds) // 60
    return (
        f"<figure><figcaption><span>{top} a second</span></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio="none" role="img"'
        f' aria-label="Outcomes of the last {minutes} minutes, at most {top} a second">'
        f"{''.join(rectangles)}</svg>"
        f'<p class="axis quiet" aria-hidden="true"><span>{minutes} minutes ago</span>'
        "<span>now</span></p></figure>"
    )

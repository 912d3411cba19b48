"""The picture of a trace: a bar for each span, on one scale of time."""

from collections.abc import Iterator, Sequence
from html import escape

from tests import ROOT
from tests.support.collector import SpanFact

IMAGE = ROOT / "docs" / "images" / "trace.svg"
_WIDTH, _ROW, _LEFT, _RIGHT, _TOP = 860, 30, 210, 90, 16
_LEAST = 3
_FONT = 'font-family="system-ui, sans-serif" font-size="13"'
_COLOURS = {"payments-service": "#2563eb"}
_OTHER = "#94a3b8"


def svg(spans: Sequence[SpanFact]) -> str:
    """Return the picture of the spans of one trace, in their order."""
    lines = [*_rows(spans)]
    height = _TOP + _ROW * len(spans) + _TOP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" {_FONT}>',
            f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
            *lines,
            "</svg>\n",
        ]
    )


def _rows(spans: Sequence[SpanFact]) -> Iterator[str]:
    start_ns = min(span.began_ns for span in spans)
    whole_ns = max(1, max(span.ended_ns for span in spans) - start_ns)
    scale = (_WIDTH - _LEFT - _RIGHT) / whole_ns
    for number, span in enumerate(spans):
        y = _TOP + _ROW * number
        x = _LEFT + (span.began_ns - start_ns) * scale
        width = max(_LEAST, (span.ended_ns - span.began_ns) * scale)
        took = f"{(span.ended_ns - span.began_ns) / 1e6:.1f} ms"
        name = escape(f"{span.service} {span.name}")
        colour = _COLOURS.get(span.service, _OTHER)
        yield f"<g><title>{name}: {took}</title>"
        yield f'<text x="12" y="{y + 17}" fill="#0f172a">{name}</text>'
        at = f'x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="18"'
        yield f'<rect {at} rx="2" fill="{colour}"/>'
        yield f'<text x="{x + width + 6:.1f}" y="{y + 17}" fill="#475569">{took}</text></g>'

"""The dashboard's panels as HTML and SVG, from what Prometheus answers to their queries."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from tests.dashboard.model import DASHBOARD, filled_in
from tests.dashboard.watched import JOB, Prometheus

Series = list[tuple[float, float]]
COLOURS = ("#7eb26d", "#eab839", "#6ed0e0", "#ef843c", "#e24d42", "#5195ce", "#ba43a9", "#a17fdb")
NAMED = {"green": "#56a64b", "orange": "#ff9830", "red": "#e02f44", "blue": "#3274d9"}
POINTS, WIDTH, HEIGHT = 150, 400, 130
STYLE = """
body { margin: 0; padding: 12px; background: #111217; color: #ccccdc; font: 12px/1.4 sans-serif }
main { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 28px; gap: 6px }
section { background: #181b1f; border: 1px solid #2a2d33; border-radius: 2px; padding: 6px 10px;
  overflow: hidden; display: flex; flex-direction: column }
h1 { font-size: 18px; margin: 0 0 2px } p { margin: 0 0 10px; color: #9a9aab }
h2 { font-size: 14px; margin: 4px 0 0; align-self: center }
h3 { font-size: 12px; font-weight: 600; margin: 0 0 4px }
b { flex: 1; display: grid; place-items: center; font-size: 26px; border-radius: 3px; color: #fff }
svg { flex: 1; min-height: 0; width: 100%; background: #15171b }
ul { list-style: none; margin: 4px 0 0; padding: 0; display: flex; flex-wrap: wrap; gap: 0 12px }
li span { display: inline-block; width: 12px; height: 3px; margin: 0 5px 3px 0 }
table { border-collapse: collapse } td, th { text-align: left; padding: 1px 14px 1px 0 }
small { color: #9a9aab; display: flex; justify-content: space-between }
"""


def document(prometheus: Prometheus, end: float, seconds: float) -> str:
    """Return the whole dashboard over the `seconds` before the Unix time `end`."""
    drawing = Drawing(prometheus, end - seconds, end)
    return (
        f"<!doctype html><meta charset=utf-8><style>{STYLE}</style>"
        f"<h1>{escape(DASHBOARD['title'])}</h1>"
        f"<p>{seconds / 60:.0f} minutes of load, plotted from the queries of the panels.</p>"
        f"<main>{''.join(map(drawing.place, DASHBOARD['panels']))}</main>"
    )


def shown(value: float, unit: str) -> str:
    """Return a value in one of the units that the dashboard uses."""
    if math.isnan(value):
        return "–"
    if unit == "percentunit":
        return f"{value:.4g}".rstrip() if abs(value) > 10 else f"{value * 100:.4g} %"
    if unit == "bytes":
        return f"{value / 2**20:,.1f} MiB" if value >= 2**20 else f"{value / 2**10:,.0f} KiB"
    if unit == "s":
        return _duration(value)
    suffix = {"ops": " ops/s", "cps": " c/s"}.get(unit, "")
    return (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}") + suffix


def _duration(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return f"{seconds * 1000:.3g} ms"


class Drawing:
    """A drawing of panels over one span of time."""

    def __init__(self, prometheus: Prometheus, start: float, end: float) -> None:
        self._prometheus = prometheus
        self._start, self._end = start, end
        self._step = (end - start) / POINTS

    def place(self, panel: dict[str, Any]) -> str:
        """Return a panel at its place in the grid."""
        at = panel["gridPos"]
        style = f"grid-column:{at['x'] + 1}/span {at['w']};grid-row:{at['y'] + 1}/span {at['h']}"
        title = escape(panel["title"])
        if panel["type"] == "row":
            return f'<div style="{style}"><h2>{title}</h2></div>'
        draw = {
            "stat": self._stat,
            "timeseries": self._curves,
            "heatmap": self._heatmap,
            "table": self._table,
        }[panel["type"]]
        return f'<section style="{style}"><h3>{title}</h3>{draw(panel)}</section>'

    def _expression(self, target: dict[str, Any]) -> str:
        whole = target["expr"].replace("$__range", f"{int(self._end - self._start)}s")
        return filled_in(whole, job=JOB)

    def _query(self, panel: dict[str, Any]) -> list[tuple[str, Series]]:
        found = []
        for target in panel["targets"]:
            for series in self._prometheus.query_range(
                self._expression(target), self._start, self._end, self._step
            ):
                name = target["legendFormat"]
                for label, value in series["metric"].items():
                    name = name.replace("{{" + label + "}}", value)
                points = [(float(at), float(value)) for at, value in series["values"]]
                found.append((name, [each for each in points if math.isfinite(each[1])]))
        return found

    def _now(self, target: dict[str, Any]) -> list[dict[str, Any]]:
        return self._prometheus.query(self._expression(target))

    def _stat(self, panel: dict[str, Any]) -> str:
        [sample] = self._now(panel["targets"][0])
        value = float(sample["value"][1])
        defaults = panel["fieldConfig"]["defaults"]
        colour = ""
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                colour = NAMED[step["color"]]
        text = shown(value, defaults["unit"])
        for mapping in defaults.get("mappings", []):
            text = mapping["options"].get(f"{value:g}", {}).get("text", text)
        return f'<b style="background:{colour}">{escape(text)}</b>'

    def _curves(self, panel: dict[str, Any]) -> str:
        series = [each for each in self._query(panel) if each[1]]
        defaults = panel["fieldConfig"]["defaults"]
        stacked = defaults["custom"]["stacking"]["mode"] == "normal"
        log = defaults["custom"]["scaleDistribution"]["type"] == "log"
        lines = _stacked([points for _, points in series]) if stacked else [p for _, p in series]
        highest = max((value for line in lines for _, value in line), default=0.0) * 1.05 or 1.0
        lowest = 0.0
        if log:
            lowest = math.log10(min(v for line in lines for _, v in line if v > 0) / 2)
            highest = math.log10(highest)

        def at(point: tuple[float, float]) -> str:
            value = math.log10(max(point[1], 1e-9)) if log else point[1]
            y = HEIGHT * (1 - (value - lowest) / (highest - lowest))
            return f"{self._x(point[0]):.1f},{y:.1f}"

        drawn = []
        for number, line in reversed(list(enumerate(lines))):
            colour = COLOURS[number % len(COLOURS)]
            path = " ".join(map(at, line))
            first, last = self._x(line[0][0]), self._x(line[-1][0])
            ground = f"{last:.1f},{HEIGHT} {first:.1f},{HEIGHT}"
            opacity = 0.35 if stacked else 0.08
            drawn.append(
                f'<polygon points="{path} {ground}" fill="{colour}" opacity="{opacity}"/>'
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"'
                ' vector-effect="non-scaling-stroke"/>'
            )
        legend = "".join(
            f'<li><span style="background:{COLOURS[n % len(COLOURS)]}"></span>{escape(name)}'
            f" {shown(points[-1][1], defaults['unit'])}</li>"
            for n, (name, points) in enumerate(series[:10])
        )
        top = shown(10**highest if log else highest, defaults["unit"])
        return f"<small>{top}</small>{_svg(drawn)}<ul>{legend}</ul>"

    def _heatmap(self, panel: dict[str, Any]) -> str:
        buckets = sorted(self._query(panel), key=lambda each: float(each[0]))
        columns: dict[float, list[float]] = {}
        for number, (_, points) in enumerate(buckets):
            for at, value in points:
                columns.setdefault(at, [0.0] * len(buckets))[number] = value
        cells = {
            at: [now - before for now, before in zip(column, [0.0, *column], strict=False)]
            for at, column in columns.items()
        }
        highest = max((value for column in cells.values() for value in column), default=1) or 1
        height, width = HEIGHT / len(buckets), WIDTH / POINTS
        drawn = [
            f'<rect x="{self._x(at) - width / 2:.1f}" y="{HEIGHT - (row + 1) * height:.1f}"'
            f' width="{width:.1f}" height="{height:.1f}"'
            f' fill="hsl({230 - 190 * value / highest:.0f} 80% {35 + 20 * value / highest:.0f}%)"/>'
            for at, column in cells.items()
            for row, value in enumerate(column)
            if value > 0.5  # increase() is an estimate: less than one is none
        ]
        bounds = [shown(float(name), "s") for name, _ in buckets[:-1]]
        scale = f"{bounds[0]} at the bottom, over {bounds[-1]} at the top"
        return f"<small>{scale}</small>{_svg(drawn)}"

    def _table(self, panel: dict[str, Any]) -> str:
        [target] = panel["targets"]
        samples = self._now(target)
        skipped = {"__name__", "job", "instance"}
        labels = sorted({label for each in samples for label in each["metric"]} - skipped)
        unit = panel["fieldConfig"]["defaults"]["unit"]
        rows = sorted(
            [each["metric"].get(label, "") for label in labels]
            + [shown(float(each["value"][1]), unit)]
            for each in samples
        )
        head = "".join(f"<th>{escape(label)}</th>" for label in [*labels, "value"])
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows
        )
        return f"<table><tr>{head}</tr>{body}</table>"

    def _x(self, at: float) -> float:
        return WIDTH * (at - self._start) / (self._end - self._start)


def _svg(shapes: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none">{"".join(shapes)}</svg>'


def _stacked(lines: list[Series]) -> list[Series]:
    """Put each on top of those before it."""
    sums: dict[float, float] = {}
    stacked = []
    for line in lines:
        for at, value in line:
            sums[at] = sums.get(at, 0.0) + value
        stacked.append([(at, sums[at]) for at, _ in line])
    return stacked

"""The status page: one process at a glance, for who looks before opening Grafana.

One document with nothing to load, made here whole: without JavaScript it is plain tables that
reload themselves; with it, the script fetches the same document and puts what has changed in place.
It shows counts, ages and offsets, never anything of a payment.
"""

import base64
import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from typing import Any

from dataflow.config.gateway_names import SIMULATED
from dataflow.core.commit_counts import CommitCounts
from dataflow.observability.metrics import Metrics
from dataflow.observability.status import Status, Word
from dataflow.web.status_page.chart import chart
from dataflow.web.status_page.formatting import UNKNOWN, age, count, percent, rate

_STYLE = files(__package__).joinpath("page.css").read_text()
_SCRIPT = files(__package__).joinpath("page.js").read_text()
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Cpath"
    " d='M1 9h3l2-6 4 11 2-5h3' fill='none' stroke='%232f6fde' stroke-width='2'/%3E%3C/svg%3E"
)
_MINUTE_S, _MINUTES_S = 60, 300


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


POLICY = "; ".join(
    [
        "default-src 'none'",
        f"style-src 'sha256-{_hash(_STYLE)}'",
        f"script-src 'sha256-{_hash(_SCRIPT)}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
"""The page's Content-Security-Policy: its own style and script, by their hashes, and no others."""
STATES: dict[Word, tuple[str, str]] = {
    "ok": ("good", "Payments flow"),
    "held": ("bad", "Waiting for the gateway"),
    "starting": ("busy", "Starting"),
    "draining": ("busy", "Stopping"),
    "kafka_unreachable": ("bad", "Waiting for Kafka"),
    "not_reading": ("bad", "Not receiving records"),
    "waiting_for_schemas": ("bad", "Waiting for the schema registry"),
    "stuck": ("bad", "Stuck"),
}
"""The colour and the text of each word of `/health`."""


def render(status: Status, metrics: Metrics) -> str:
    """Return the page as of now, as HTML."""
    _, health = status.health()
    parts = (
        _heading(health),
        _banner(health),
        _tiles(status, metrics, health),
        _rates(metrics),
        _failures(metrics),
        _gateway(health),
        _partitions(status, health),
        _lanes(status),
        _process(health),
    )
    mood, title = STATES[health["status"]]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="robots" content="noindex">'
        f'<title>{escape(title)} · Payments</title><link rel="icon" href="{_ICON}">'
        f"<style>{_STYLE}</style>"
        '<noscript><meta http-equiv="refresh" content="5"></noscript></head>'
        f'<body><main class="{mood}">{"".join(parts)}</main>'
        f'<p id="lost" role="alert" hidden></p><script>{_SCRIPT}</script></body></html>\n'
    )


def _heading(health: dict[str, Any]) -> str:
    _, title = STATES[health["status"]]
    reason = "" if health["status"] == "ok" else f"<p>{escape(str(health['reason']))}</p>"
    now = datetime.now(UTC)
    return (
        f'<header><h1><span class="dot" aria-hidden="true"></span>{escape(title)}</h1>{reason}'
        f'<p class="quiet">This process, version {escape(str(health["version"]))}, up for'
        f' {age(health["uptime_seconds"])}. As of <time datetime="{now:%Y-%m-%dT%H:%M:%SZ}">'
        f"{now:%H:%M:%S}</time> UTC.</p></header>"
    )


def _banner(health: dict[str, Any]) -> str:
    if health["gateway"] != SIMULATED:
        return ""
    return (
        '<p class="banner" role="alert"><strong>Simulated gateway:</strong> payments are approved,'
        " and nobody is charged.</p>"
    )


def _tiles(status: Status, metrics: Metrics, health: dict[str, Any]) -> str:
    minute = metrics.recent.total(_MINUTE_S)
    minutes = metrics.recent.total(_MINUTES_S)
    lags, ages = status.partitions.lags(), status.partitions.lag_seconds()
    oldest_s = max(ages.values(), default=None)
    charged = minutes.processed + sum(minutes.failed.values())
    committed_s = health["last_commit_age_seconds"]
    charging = health["charging"]
    seconds = metrics.recent.covered(_MINUTE_S)
    tiles = (
        ("Decided", rate(_records(minute), seconds), "a second"),
        ("Successful", percent(minutes.processed, charged), "in the last 5 minutes"),
        ("Waiting", count(sum(lags.values())) if lags else UNKNOWN, "records"),
        ("Oldest waiting", _waiting(oldest_s), "for its outcome"),
        ("Last commit", UNKNOWN if committed_s is None else age(committed_s), "ago"),
        ("Conflicts", count(minutes.conflicts), "in the last 5 minutes"),
        ("Pending", count(charging["pending"]), "parked without an answer"),
        ("Unresolved", count(charging["unresolved"]), "need a person"),
    )
    return (
        '<dl class="tiles">'
        + "".join(
            f"<div><dt>{name}</dt><dd><strong>{value}</strong> <small>{unit}</small></dd></div>"
            for name, value, unit in tiles
        )
        + "</dl>"
    )


def _rates(metrics: Metrics) -> str:
    minute = metrics.recent.total(_MINUTE_S)
    minutes = metrics.recent.total(_MINUTES_S)
    total = metrics.total()
    seconds = metrics.recent.covered(_MINUTE_S)
    rows = [
        [
            f'<span class="swatch {name}" aria-hidden="true"></span>{title}',
            rate(of(minute), seconds),
            count(of(minutes)),
            count(of(total)),
        ]
        for name, title, of in (
            ("processed", "Processed", lambda counts: counts.processed),
            ("failed", "Failed", lambda counts: sum(counts.failed.values())),
            ("duplicates", "Duplicates", lambda counts: counts.duplicates),
            ("conflicts", "Conflicts", lambda counts: counts.conflicts),
            ("all", "All", _records),
        )
    ]
    head = ["Outcome", "A second", "5 minutes", "Since start"]
    picture = chart(metrics.recent.each(_MINUTES_S))
    return _section("Outcomes", picture + _table("Outcomes", head, rows), kind="wide")


def _failures(metrics: Metrics) -> str:
    minute = metrics.recent.total(_MINUTE_S).failed
    minutes = metrics.recent.total(_MINUTES_S).failed
    rows = [
        [
            f"<code>{escape(code)}</code>",
            *map(count, (minute.get(code, 0), minutes.get(code, 0), n)),
        ]
        for code, n in sorted(metrics.total().failed.items(), key=lambda item: -item[1])
        if n
    ]
    head = ["Code", "Last minute", "5 minutes", "Since start"]
    return _section("Failures", _table("Failures by code", head, rows, "None since the start."))


def _partitions(status: Status, health: dict[str, Any]) -> str:
    waiting_s = status.partitions.lag_seconds()
    rows = [
        [
            number,
            _known(entry["committed"]),
            _known(entry["lag"]),
            _waiting(waiting_s.get(int(number))),
            "live" if entry["live"] else '<span class="warn">catching up</span>',
        ]
        for number, entry in health["partitions"].items()
    ]
    head = ["Partition", "Committed up to", "Lag", "Oldest waiting", "State"]
    title = _titled("Input partitions", len(rows))
    content = _table("Input partitions", head, rows, "None assigned yet.")
    return _section(title, content, kind="wide")


def _lanes(status: Status) -> str:
    expected, open_ones = status.lanes()
    now = datetime.now(UTC).timestamp()
    rows = [
        [f"{lane:03d}", UNKNOWN if at is None else f"{age(max(0.0, now - at))} ago"]
        for lane, at in open_ones.items()
    ]
    title = f"Lanes ({len(rows)} of {expected} open)" if expected else "Lanes"
    return _section(title, _table("Lanes", ["Lane", "Last commit"], rows, "None open yet."))


def _gateway(health: dict[str, Any]) -> str:
    charging = health["charging"]
    rows = [
        ["Provider", f"<code>{escape(health['gateway'])}</code>"],
        ["State", _charging_state(charging)],
        ["In flight", f"{count(charging['in_flight'])} of {count(charging['window'])}"],
        ["Mean time to answer", age(charging["mean_seconds"])],
        ["Waiting for the first call", count(charging["queued"])],
        ["To be asked for again", count(charging["waiting"])],
        ["Pending", f"{count(charging['pending'])} of {count(charging['pending_max'])} at most"],
        ["Oldest pending", _waiting(charging["pending_oldest_seconds"])],
        ["Unresolved", _warned(charging["unresolved"])],
    ]
    return _section("Payment gateway", _table("Payment gateway", [], rows))


def _charging_state(charging: dict[str, Any]) -> str:
    if charging["state"] == "charging":
        return "charging"
    # What the reason is, is at the top of the page.
    return f'<span class="warn">held for {age(charging["held_for_seconds"])}</span>'


def _warned(number: int) -> str:
    return f'<span class="warn">{count(number)}</span>' if number else count(number)


def _process(health: dict[str, Any]) -> str:
    kafka, recovery = health["kafka"], health["recovery"]
    reachable = {None: "not known yet", True: "reachable", False: "unreachable"}
    rows = [
        ["Kafka", reachable[kafka["reachable"]]],
        ["Waiting for", escape(", ".join(health["waiting_for"])) or "nothing"],
        ["Last epoch", f"{age(health['epoch_age_seconds'])} ago"],
        ["Remembered ids", count(health["remembered_ids"])],
        ["Recovery store", escape(recovery["directory"]) if recovery["configured"] else "none"],
    ]
    return _section("Process", _table("Process", [], rows))


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{title}</h2>{content}</section>'


def _table(name: str, head: list[str], rows: Iterable[list[str]], without: str = "") -> str:
    body = "".join(map(_row, rows))
    if not body:
        return f'<p class="quiet">{without}</p>'
    columns = "".join(f'<th scope="col">{title}</th>' for title in head)
    return (
        # It may scroll, so the keyboard must be able to reach it.
        f'<div class="table" role="region" aria-label="{name}" tabindex="0"><table>'
        + (f"<thead><tr>{columns}</tr></thead>" if head else "")
        + f"<tbody>{body}</tbody></table></div>"
    )


def _row(cells: list[str]) -> str:
    first, *others = cells
    rest = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr><th scope="row">{first}</th>{rest}</tr>'


def _titled(title: str, number: int) -> str:
    return f"{title} ({number})" if number else title


def _waiting(seconds: float | None) -> str:
    """Return the age of the oldest waiting record; 0 stands for none in the status."""
    return UNKNOWN if not seconds else age(seconds)


def _known(number: int | None) -> str:
    return UNKNOWN if number is None else count(number)


def _records(counts: CommitCounts) -> int:
    failed = sum(counts.failed.values())
    return counts.processed + failed + counts.duplicates + counts.conflicts

"""A demo on a terminal: the whole screen, redrawn as it changes. The only user of rich."""

from typing import Self

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from dataflow.demo.snapshot import DemoAddresses, Snapshot, printable
from dataflow.demo.text_view import by_type, lag, name
from schemas.outcomes import ErrorCode, EventType

_STATES = {"ready": "green", "starting": "yellow", "draining": "cyan", "ended": "dim"}
_TYPES = {
    EventType.PROCESSED: "green",
    EventType.FAILED: "red",
    EventType.DUPLICATE: "cyan",
    EventType.CONFLICT: "magenta",
}
_RARE = ErrorCode.UNKNOWN_SCHEMA
"""Only with a schema registry, which few demos have: all others take every line of the screen."""
_HEAD_LINES = 6
_LEFT_COLUMNS = 32


class ScreenView:
    """The whole terminal, from `__enter__` to `__exit__`.

    Args:
        place: What stays on the screen as it is.
        console: The terminal; by default that of standard output.
    """

    def __init__(self, addresses: DemoAddresses, console: Console | None = None) -> None:
        self._addresses = addresses
        # Redrawn by `show` alone: a drawing thread would only draw the same again.
        self._live = Live(console=console, screen=True, auto_refresh=False)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def show(self, snapshot: Snapshot) -> None:
        """Redraw."""
        self._live.update(render(self._addresses, snapshot), refresh=True)


def render(addresses: DemoAddresses, snapshot: Snapshot) -> Layout:
    """Return the screen; at its best from 80 columns and 24 lines."""
    layout = Layout()
    layout.split_column(Layout(_head(addresses, snapshot), size=_HEAD_LINES), Layout(name="body"))
    layout["body"].split_row(
        Layout(Panel(_outcomes(snapshot), title=_total(snapshot)), size=_LEFT_COLUMNS),
        Layout(name="right"),
    )
    layout["right"].split_column(
        Layout(Panel(_flow(snapshot), title="Requests"), size=5),
        Layout(Panel(_latest(snapshot), title="Latest outcomes")),
    )
    return layout


def _head(addresses: DemoAddresses, snapshot: Snapshot) -> RenderableType:
    title = Text.assemble(
        ("Payments dataflow demo", "bold"),
        "   ",
        (f"\N{BLACK CIRCLE} {snapshot.state}", _STATES.get(snapshot.state, "red")),
        f"   {snapshot.elapsed_s:.0f} s   ",
        (snapshot.doing, "dim"),
    )
    rows = Table.grid(padding=(0, 1))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_row("broker", addresses.broker)
    rows.add_row("probes", f"{addresses.probes_url}/health /ready /live")
    rows.add_row("metrics", addresses.metrics_url)
    rows.add_row("log", addresses.log_path)
    if snapshot.provider:
        style = "red" if snapshot.provider.startswith("refuses") else "green"
        rows.add_row("provider", Text(snapshot.provider, style))
    return Group(title, rows)


def _outcomes(snapshot: Snapshot) -> Table:
    rows = Table.grid(expand=True)
    rows.add_column()
    rows.add_column(justify="right")
    totals = snapshot.totals
    types = by_type(totals)
    for event_type, style in _TYPES.items():
        short = event_type.removeprefix("payment.")
        rows.add_row(Text(short, style), f"{types[short]:,}")
        if event_type is EventType.FAILED:
            codes = {outcome.code: count for outcome, count in totals.audited.items()}
            for code in ErrorCode:
                if code is _RARE and code not in codes:
                    continue
                rows.add_row(Text(f"  {code}", "dim"), Text(f"{codes.get(code, 0):,}", "dim"))
    return rows


def _total(snapshot: Snapshot) -> str:
    """Return the title of the outcomes: their rows leave no line for it."""
    return f"Outcomes: {snapshot.totals.audited_total:,} in total"


def _flow(snapshot: Snapshot) -> RenderableType:
    totals = snapshot.totals
    rows = Table.grid(padding=(0, 1))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(no_wrap=True)
    rows.add_row("sent", f"{totals.sent_total:,}  ({snapshot.sent_rate:,.0f}/s)")
    rows.add_row("audited", f"{totals.audited_total:,}  ({snapshot.audited_rate:,.0f}/s)")
    lags = " ".join(f"[{partition}] {records:,}" for partition, records in snapshot.lags.items())
    rows.add_row("lag", Text(f"{lag(snapshot)}   {lags}"))
    return rows


def _latest(snapshot: Snapshot) -> Table:
    rows = Table.grid(padding=(0, 1), expand=True)
    rows.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    rows.add_column(no_wrap=True)
    for seen in snapshot.totals.latest:
        style = _TYPES[seen.outcome.event_type]
        rows.add_row(Text(printable(seen.payment_id or "-")), Text(name(seen.outcome), style))
    return rows

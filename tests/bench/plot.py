"""The plot of the report. Run by the benchmark's own environment, which has matplotlib."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from tests.bench.figures import Data, burst, latency

_OURS, _THEIRS = "#1b6ca8", "#b0b7bf"
_P99_RATE = 5_000


def main(source: Path, target: Path) -> None:
    """Draw throughput, CPU and latency, one bar for each contender."""
    data: Data = json.loads(source.read_text(encoding="utf-8"))
    names = [name for name, each in data["contenders"].items() if each["rates"]]
    panels: tuple[tuple[str, Callable[[str], float | None], str], ...] = (
        ("payments/s, more is better", lambda name: burst(data, name, "payments_per_s"), "{:,.0f}"),
        (
            "CPU µs per payment, less is better",
            lambda name: burst(data, name, "cpu_us"),
            "{:.1f}",
        ),
        (
            f"p99 in ms at {_P99_RATE:,}/s, less is better",
            lambda name: latency(data, name, _P99_RATE, "p99_ms"),
            "{:,.0f}",
        ),
    )
    figure, axes = plt.subplots(1, 3, figsize=(13, 0.45 * len(names) + 1.3), sharey=True)
    for axis, (title, value, form) in zip(axes, panels, strict=True):
        values = [value(name) for name in names]
        colors = [_OURS if name in {"product", "low-latency"} else _THEIRS for name in names]
        bars = axis.barh(range(len(names)), [found or 0 for found in values], color=colors)
        labels = ["falls behind" if found is None else form.format(found) for found in values]
        axis.bar_label(bars, labels=labels, padding=3, fontsize=8)
        axis.set_title(title, fontsize=10)
        axis.margins(x=0.25)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(bottom=False, labelbottom=False)
    axes[0].set_yticks(
        range(len(names)), [data["contenders"][name]["title"] for name in names], fontsize=9
    )
    axes[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(target, dpi=110, metadata={"Software": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

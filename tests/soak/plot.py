"""The curves, in one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from tests.soak.flatness import Verdict
from tests.soak.samples import LABELS, Sample, series

mpl.use("Agg")  # without a display
from matplotlib import pyplot as plt

_GOOD, _BAD = "#1b7f5a", "#b3261e"


def draw(
    path: Path, samples: Sequence[Sample], verdicts: Mapping[str, Verdict], title: str
) -> None:
    """Draw a PNG file."""
    figure, axes = plt.subplots(len(LABELS), 1, sharex=True, figsize=(9, 1.7 * len(LABELS)))
    for axis, (name, label) in zip(axes, LABELS.items(), strict=True):
        times_s, values = series(samples, name)
        verdict = verdicts[name]
        color = _GOOD if verdict.flat else _BAD
        axis.plot([at_s / 60 for at_s in times_s], values, color=color, linewidth=1)
        axis.set_ylim(bottom=0, top=max([*values, 1]) * 1.15)
        axis.set_title(label, loc="left", fontsize=9)
        words = (
            f"second half: {verdict.growth:+.3g}"
            f" (95 %: {verdict.low:+.3g} to {verdict.high:+.3g}; allowed {verdict.allowed:.3g})"
        )
        axis.set_title(words, loc="right", fontsize=8, color=color)
        axis.axvline(samples[-1].seconds / 120, color="#bbbbbb", linewidth=0.8)
        axis.grid(alpha=0.2)
    axes[-1].set_xlabel("minutes")
    figure.suptitle(title, fontsize=11)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)

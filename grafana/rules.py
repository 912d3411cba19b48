"""The rules for a Prometheus without an operator, cut out of the PrometheusRule.

python -m grafana.rules > grafana/prometheus/rules.yaml
"""

import sys
from pathlib import Path
from textwrap import dedent

HOME = Path(__file__).parents[1] / "k8s" / "80-prometheusrule.yaml"
_HEADER = "# Made from k8s/80-prometheusrule.yaml by `make monitoring`: change it there.\n"


def plain() -> str:
    """Return what stands under `spec:`, comments included."""
    _, _, spec = HOME.read_text().partition("\nspec:\n")
    return _HEADER + dedent(spec)


if __name__ == "__main__":
    sys.stdout.write(plain())

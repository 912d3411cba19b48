"""Follow a payment through a real flow, and draw its trace: docs/images/trace.svg.

python -m tests.pictures.trace
"""

import tempfile
from pathlib import Path

from tests.pictures.trace_plot import IMAGE, svg
from tests.support.collector import collecting
from tests.support.flow_process import Topics
from tests.support.kafka import Broker
from tests.support.traced import follow


def main() -> None:
    """Draw it."""
    with tempfile.TemporaryDirectory() as scratch, Broker.start() as kafka, collecting() as found:
        traces = follow(kafka, Topics.fresh(kafka), Path(scratch), found)
    [spans] = traces.values()
    IMAGE.write_text(svg(spans))


if __name__ == "__main__":
    main()

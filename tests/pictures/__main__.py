"""Run the flow under load with its Prometheus for some minutes, then take the pictures.

The status page is as a browser shows it. The dashboard is not Grafana's own drawing, which takes a
Grafana: its panels are plotted here from the same queries, at the same places.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests import ROOT
from tests.dashboard.watched import watched
from tests.page.browser import Browser
from tests.pictures.plot import document
from tests.support.kafka import SecureBroker

IMAGES = ROOT / "docs" / "images"
WIDTH, TOP = 1400, 880
"""Of the dashboard; as high as the rows that one looks at first."""


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(prog="make pictures", description=__doc__)
    parser.add_argument("--seconds", type=int, default=320, help="of load before the pictures")
    parser.add_argument("--rate", type=int, default=400, help="requests a second")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as scratch,
        SecureBroker.start() as kafka,
        watched(kafka, Path(scratch), rate=args.rate) as (prometheus, flow),
        Browser.start() as browser,
        browser.page() as page,
    ):
        print(f"{args.seconds} s of load ...")
        time.sleep(args.seconds)
        for scheme in ("light", "dark"):
            page.look(scheme=scheme, width=1100, height=1000)
            page.open(f"http://127.0.0.1:{flow.port}/")
            page.screenshot(IMAGES / f"status-page-{scheme}.png")
        drawn = Path(scratch) / "dashboard.html"
        drawn.write_text(document(prometheus, time.time(), args.seconds - 20))
        page.look(width=WIDTH, height=TOP)
        page.open(drawn.as_uri())
        page.screenshot(IMAGES / "dashboard.png", whole=False)
        page.screenshot(IMAGES / "dashboard-all.png")
    print(*sorted(path.name for path in IMAGES.glob("*.png")), sep="\n")


if __name__ == "__main__":
    main()

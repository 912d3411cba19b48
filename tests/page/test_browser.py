"""The status page as a person meets it: in a real Chromium, served by the real sidecar."""

import os
import time
from collections.abc import Iterator

import pytest

from dataflow.core.commit_counts import CommitCounts
from dataflow.web.server import Sidecar
from tests.page.browser import Browser, Page, found
from tests.page.shown import Process
from tests.support.kafka import ports

pytestmark = pytest.mark.skipif(
    found() is None and os.environ.get("CI") != "true",
    reason="needs Chromium (Debian: apt-get install chromium)",
)

LOOPBACK = "127.0.0.1"

WORST_CONTRAST = """
(() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, n) => sum + c * [0.2126, 0.7152, 0.0722][n], 0);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const colour = channels(getComputedStyle(element).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const texts = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  let worst = [21, ""];
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const [a, b] = [channels(getComputedStyle(element).color), ground(element)].map(luminance);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (texts.currentNode.data.trim() && ratio < worst[0]) worst = [ratio, texts.currentNode.data];
  }
  return worst;
})()
"""
"""The lowest contrast of any text with what is behind it, as WCAG 2 defines it; and that text."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser.start() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with browser.page() as page:
        page.look()
        yield page


@pytest.fixture
def process() -> Process:
    return Process()


@pytest.fixture
def url(process: Process) -> Iterator[str]:
    sidecar = Sidecar.start(process.status, process.metrics, 0, 0, host=LOOPBACK)
    yield f"http://{LOOPBACK}:{sidecar.port}/"
    sidecar.stop()


def test_it_is_shown_as_it_is_meant_without_a_complaint(
    page: Page, url: str, process: Process
) -> None:
    process.flows()
    page.open(url)
    assert page.run("document.title") == "Payments flow · Payments"
    assert page.run("getComputedStyle(document.querySelector('.tiles')).display") == "grid"
    assert page.run("document.querySelector('svg').getBoundingClientRect().height") == 120
    assert "Payments flow" in page.text()
    assert page.complaints() == [], "its policy lets through what it needs"
    assert [asked for asked in page.requests() if not asked.startswith((url, "data:"))] == []


def test_it_goes_on_by_itself_and_leaves_the_reader_alone(
    page: Page, url: str, process: Process
) -> None:
    process.flows(partitions=100)
    page.open(url)
    page.run("""
        const table = document.querySelector('[aria-label="Input partitions"]');
        table.focus(); table.scrollTop = 400; window.stayed = true;
        getSelection().selectAllChildren(document.querySelector("h2"))
    """)
    for _ in range(60):
        process.commits(CommitCounts(processed=7))
    process.status.broker_down("all brokers are down")
    page.until("document.body.innerText.includes('all brokers are down')")
    assert page.run("document.querySelector('.tiles strong').innerText") == "7.0"
    assert page.run("document.title") == "Waiting for Kafka · Payments"
    assert page.run("document.querySelector('main').className") == "bad"
    assert page.run("window.stayed"), "it was not loaded anew"
    assert page.run("document.activeElement.getAttribute('aria-label')") == "Input partitions"
    assert page.run("document.activeElement.scrollTop") == 400
    assert page.run("getSelection().toString()") == "Outcomes"
    process.status.broker_up()
    page.until("document.querySelector('main').className === 'good'")
    assert page.complaints() == []


def test_rows_come_and_go(page: Page, url: str, process: Process) -> None:
    page.open(url)
    rows = "document.querySelectorAll('[aria-label=\"Input partitions\"] tbody tr').length"
    assert page.run(rows) == 0
    process.flows(partitions=5)
    page.until(f"{rows} === 5")
    page.until("document.querySelectorAll('rect').length > 60")
    process.now += 1000
    page.until("document.querySelectorAll('rect').length === 0")


def test_a_process_that_is_gone_is_shown_with_the_time(page: Page, process: Process) -> None:
    [port] = ports.free(1)
    sidecar = Sidecar.start(process.status, process.metrics, port, 0, host=LOOPBACK)
    page.open(f"http://{LOOPBACK}:{sidecar.port}/")
    assert page.run("document.getElementById('lost').checkVisibility()") is False
    sidecar.stop()
    page.until("!document.getElementById('lost').hidden")
    said = page.run("document.getElementById('lost').innerText")
    seen_at = page.run("document.querySelector('time').innerText")
    assert said == f"The process does not answer. This page is from {seen_at} UTC."
    again = Sidecar.start(process.status, process.metrics, sidecar.port, 0, host=LOOPBACK)
    page.until("document.getElementById('lost').hidden")
    again.stop()


def test_the_page_is_plain_tables_that_reload_without_javascript(
    page: Page, url: str, process: Process
) -> None:
    process.flows()
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=url)
    deadline = time.monotonic() + 120
    while page.requests().count(url) < 2:
        assert time.monotonic() < deadline, page.requests()
        time.sleep(0.2)
    page.until("document.readyState === 'complete'")
    assert "declined" in page.text()
    assert page.complaints() == []


def test_a_script_that_got_in_would_not_run(page: Page, url: str) -> None:
    page.open(url)
    page.run("""
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<img src=/x onerror='window.ran = true'>");
    """)
    page.until("true")
    assert page.run("window.ran") is None
    assert any("Content Security Policy" in complaint for complaint in page.complaints())


def test_it_cannot_be_framed_or_read_from_another_origin(
    page: Page, url: str, process: Process
) -> None:
    other = Sidecar.start(process.status, process.metrics, 0, 0, host=LOOPBACK)
    page.open(f"http://{LOOPBACK}:{other.port}/health")
    page.call("Page.setBypassCSP", enabled=True)
    page.open(f"http://{LOOPBACK}:{other.port}/ready")
    refused = page.run(f"fetch('{url}').then(() => 'read', () => 'refused')")
    other.stop()
    assert refused == "refused"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["good", "bad", "busy", "held"])
def test_every_text_can_be_read(
    page: Page, url: str, process: Process, scheme: str, state: str
) -> None:
    """4.5 is what WCAG 2.2 asks for at level AA."""
    process.flows()
    process.status.assign([7], lanes=0)
    if state == "bad":
        process.status.broker_down("all brokers are down")
    elif state != "busy":
        process.status.partitions.live(7)
    if state == "held":
        process.holds(unresolved=1)
    page.look(scheme=scheme)
    page.open(url)
    mood = "bad" if state == "held" else state
    assert page.run("document.querySelector('main').className") == mood
    ratio, text = page.run(WORST_CONTRAST)
    assert ratio >= 4.5, text


@pytest.mark.parametrize("width", [320, 700, 1000, 2000])
def test_no_width_makes_the_page_scroll_sideways(
    page: Page, url: str, process: Process, width: int
) -> None:
    process.flows(partitions=100, lanes=64)
    process.status.broker_down("broker-with-a-long-name." * 9)
    page.look(width=width)
    page.open(url)
    assert page.run("document.scrollingElement.scrollWidth") <= width
    assert page.run("document.scrollingElement.scrollHeight") < 4000, "long tables scroll in place"


def test_a_screen_reader_finds_its_way(page: Page, url: str, process: Process) -> None:
    process.flows()
    page.open(url)
    page.call("Accessibility.enable")
    nodes = page.call("Accessibility.getFullAXTree")["nodes"]
    found = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes}
    assert {("main", ""), ("heading", "Payments flow"), ("heading", "Outcomes")} <= found
    assert ("region", "Input partitions") in found
    assert ("columnheader", "Lag") in found
    assert ("rowheader", "Processed") in found
    assert any(role == "image" and name.startswith("Outcomes of the last") for role, name in found)

"""The recording of an outage: what is read, what is found in it, and what is drawn."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.pictures.outage import Figures, Sample, figures, is_good, read
from tests.pictures.outage_plot import draw

SVG = "{http://www.w3.org/2000/svg}"


def sample(seconds: float, **state: float) -> Sample:
    calm = {"rate": 200.0, "lag": 5.0, "oldest_s": 0.2, "parked": 0.0, "held": 0.0, "window": 256.0}
    return Sample(seconds, **{**calm, **state})


COURSE = [
    sample(0),
    sample(10),
    sample(11, rate=30, lag=150, oldest_s=1),
    sample(12, rate=0, lag=300, parked=80, held=1, oldest_s=2),
    sample(20, rate=0, lag=1900, parked=84, held=1, oldest_s=10),
    sample(20.5, rate=10, lag=1990, parked=84, window=8, oldest_s=10.5),
    sample(22, rate=900, lag=1200, parked=20, window=200, oldest_s=6),
    sample(24, rate=600, lag=10, parked=2, oldest_s=0.4),
    sample(30),
]


def recording(**changes: Any) -> dict[str, Any]:
    made = {
        "outage_s": [10.0, 20.0],
        "sent": 7,
        "processed": 7,
        "charged": 7,
        "problems": [],
        "fields": Sample._fields,
        "samples": COURSE,
    }
    return made | changes


def test_the_figures_count_from_the_begin_and_from_the_end_of_the_outage() -> None:
    assert figures(COURSE, 10.0, 20.0, 200) == Figures(
        held_after_s=2.0,
        answers_after_s=0.5,
        full_rate_after_s=2.0,
        in_time_after_s=4.0,
        none_parked_after_s=10.0,
        most_lag=1990,
        most_parked=84,
    )


def test_an_event_that_has_not_happened_has_no_time() -> None:
    found = figures(COURSE[:5], 10.0, 20.0, 200)
    assert found.answers_after_s is None
    assert found.none_parked_after_s is None


def test_a_scrape_is_read_as_one_number_of_each_metric() -> None:
    text = (
        'kafka_consumer_lag{partition="0"} 3.0\nkafka_consumer_lag{partition="1"} 4.0\n'
        'kafka_consumer_lag_seconds{partition="0"} 3.0\n'
        'kafka_consumer_lag_seconds{partition="1"} 9.0\n'
        'payments_gateway_held{cause="outage"} 1.0\npayments_gateway_held{cause="peer"} 0.0\n'
    )
    assert read(text) == {
        "kafka_consumer_lag": 7,
        "kafka_consumer_lag_seconds": 9,
        "payments_gateway_held": 1,
    }


@pytest.mark.parametrize(
    ("changes", "good"),
    [({}, True), ({"charged": 8}, False), ({"processed": 6}, False), ({"problems": ["x"]}, False)],
)
def test_a_recording_is_good_if_each_payment_was_charged_and_published_once(
    changes: dict[str, Any], *, good: bool
) -> None:
    assert is_good(recording(**changes)) is good


def test_the_picture_has_each_curve_the_outage_and_the_hold() -> None:
    picture = ET.fromstring(draw(recording()))  # noqa: S314  (our own)
    curves = picture.findall(f"{SVG}polyline")
    assert [len(each.attrib["points"].split()) for each in curves] == [len(COURSE)] * 5
    places = {
        kind: [
            (float(each.attrib["x"]), float(each.attrib["width"]))
            for each in picture.findall(f"{SVG}rect")
            if each.attrib.get("class") == kind
        ]
        for kind in ("outage", "held")
    }
    # 860 pixels for 30 seconds, from 70 on.
    [(left, width)] = places["outage"]
    assert [left, width] == pytest.approx([70 + 860 / 3, 860 / 3], 0.01)
    assert sum(width for _, width in places["held"]) == pytest.approx(860 * 9 / 30, 0.01)
    texts = {each.text for each in picture.findall(f"{SVG}text")}
    assert {"held", "1,990", "84", "256", "30 s"} <= texts


def test_a_picture_of_nothing_parked_is_flat() -> None:
    calm = [sample(float(n)) for n in range(4)]
    curves = ET.fromstring(draw(recording(samples=calm))).findall(f"{SVG}polyline")  # noqa: S314
    heights = {point.split(",")[1] for point in curves[3].attrib["points"].split()}
    assert len(heights) == 1

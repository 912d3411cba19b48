"""docs/events.md: what is generated is up to date, and nothing is left out."""

import re

import pytest

from schemas import contract
from schemas.outcomes import DECLINE_CODES, ErrorCode, EventType
from tests import ROOT
from tests.published import document, examples

TEXT = document.DOCUMENT.read_text()


def test_its_generated_parts_are_what_the_code_makes() -> None:
    assert document.filled(TEXT) == TEXT, "make contract"


def test_every_message_every_reader_and_every_exception_is_in_it() -> None:
    names = document.names(TEXT)
    assert {f"fields-{message.name}" for message in contract.MESSAGES} <= {*names}
    assert {"ledger.py", "join.sql", "Forward.java", "print.ts", "not-in-the-schema"} <= {*names}
    assert len(names) == len({*names}) == TEXT.count("<!-- /")


def test_every_kind_of_event_has_an_example() -> None:
    shown = "".join(re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))
    for event_type in EventType:
        assert f'"eventType": "{event_type}"' in shown
    for field in contract.FIELDS:
        if field != "originalTruncated":
            assert f'"{field}":' in shown, field


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_explained(code: ErrorCode) -> None:
    (row,) = re.findall(rf"^\| .*`{code}`.* \| (yes|no) \|$", TEXT, re.MULTILINE)
    assert (row == "yes") == (code in DECLINE_CODES)


def test_every_example_is_in_the_order_of_the_records() -> None:
    """The pairs of a record and its events are those of one run."""
    made = examples.events()
    assert {name: sorted(each) for name, each in made.items()} == {
        "approved": ["audit", "outcome"],
        "duplicate": ["audit"],
        "conflict": ["audit"],
        "declined": ["audit", "outcome"],
        "invalid": ["audit", "outcome"],
        "unreadable": ["audit", "outcome"],
        "tombstone": ["audit", "outcome"],
    }


def test_every_link_leads_to_a_file() -> None:
    for target in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / target).exists(), target


def test_every_link_within_it_leads_to_a_heading() -> None:
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", TEXT):
        assert anchor in headings

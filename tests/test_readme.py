"""The README says what the product is: where it can be generated, it is."""

import re
from pathlib import Path

import published

from dataflow import reference
from schemas.parsing import parse
from schemas.requests import PaymentRequest

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_configuration_table_is_that_of_the_variables() -> None:
    assert reference.markdown().strip() in README


def test_every_document_it_links_to_exists() -> None:
    for part in README.split("](")[1:]:
        target = part.partition(")")[0].partition("#")[0]
        if not target.startswith("http"):
            assert (Path(__file__).parents[1] / target).exists(), target


def test_its_request_is_accepted_and_its_event_is_valid() -> None:
    request, event = (
        "".join(map(str.strip, block.splitlines())).encode()
        for block in re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    )
    assert isinstance(parse(request, len(request)), PaymentRequest)
    published.assert_valid(published.PROCESSED, event)

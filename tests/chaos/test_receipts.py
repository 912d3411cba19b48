"""The places of what was sent: also of records whose receipts do not say where they are."""

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.load import Load
from tests.chaos.receipts import Receipts
from tests.support.fake_scan import FakeMessage


def test_a_receipt_has_the_place_of_a_record() -> None:
    receipts = Receipts()
    receipts.note(0, 0, b"a")
    receipts.note(1, 7, b"b")
    assert receipts.places == {(0, 0): b"a", (1, 7): b"b"}
    assert receipts.ends == {0: 1, 1: 8}
    assert receipts.is_complete


def test_a_record_without_a_place_is_found_in_the_topic() -> None:
    """It must not be taken for the first one of its partition."""
    receipts = Receipts()
    receipts.note(0, 0, b"a")
    receipts.note(0, None, b"b")
    assert not receipts.is_complete
    assert receipts.ends == {0: 2}
    receipts.complete([((0, 0), b"a"), ((1, 0), b"b"), ((0, 1), b"b")])
    assert receipts.places == {(0, 0): b"a", (0, 1): b"b"}
    assert receipts.is_complete


def test_equal_records_have_a_place_each() -> None:
    receipts = Receipts()
    receipts.note(0, 0, b"a")
    receipts.note(0, None, b"a")
    receipts.complete([((0, 0), b"a"), ((0, 1), b"a")])
    assert receipts.places == {(0, 0): b"a", (0, 1): b"a"}


def test_a_record_that_is_nowhere_is_an_error() -> None:
    receipts = Receipts()
    receipts.note(0, None, b"a")
    with pytest.raises(AssertionError, match="does not have them"):
        receipts.complete([((0, 0), b"b")])


def test_a_record_of_nobody_stays_unknown() -> None:
    """So the invariants call it a phantom."""
    receipts = Receipts()
    receipts.note(0, None, b"a")
    receipts.complete([((0, 0), b"a"), ((0, 1), b"a")])
    assert receipts.places == {(0, 0): b"a"}


def test_deleted_records_are_forgotten() -> None:
    receipts = Receipts()
    for offset in range(3):
        receipts.note(0, offset, b"a")
    receipts.lose(0, 0, 2)
    assert list(receipts.places) == [(0, 2)]


def test_the_load_takes_a_receipt_without_an_offset_for_what_it_is() -> None:
    kafka: Any = SimpleNamespace(bootstrap="127.0.0.1:1")
    topics: Any = SimpleNamespace(requested="requests")
    load = Load(kafka, topics, 1, Random(1), 1, "simulated")
    receipt: Any = FakeMessage(None, b"a", None, None)
    load._note(b"a")(None, receipt)
    assert load.sent == {}
    assert load.ends == {0: 1}

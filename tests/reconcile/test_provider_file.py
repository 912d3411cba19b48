"""The provider's list as a file."""

from decimal import Decimal
from pathlib import Path

import pytest

from dataflow.gateways.listing import ListedPayment, ListedState, ListError
from dataflow.reconcile import provider_file

EXPECTED = [
    ListedPayment(
        payment_id="pay_1",
        reference="ch_1",
        amount=Decimal("10.10"),
        currency="USD",
        state=ListedState.APPROVED,
        created_s=1_767_225_600.0,
    ),
    ListedPayment(
        payment_id=None,
        reference="ch_2",
        amount=Decimal(3),
        currency="JPY",
        state=ListedState.DECLINED,
    ),
]
CSV = """\
paymentId,reference,amount,currency,status,createdAt,note
pay_1,ch_1,10.10,usd,approved,2026-01-01T00:00:00Z,"a, b"
,ch_2,3,JPY,Declined,,
"""
LINES = """\
{"paymentId": "pay_1", "reference": "ch_1", "amount": 10.10, "currency": "USD",\
 "createdAt": "2026-01-01T00:00:00Z"}

{"paymentId": null, "reference": "ch_2", "amount": "3", "currency": "JPY", "status": "declined"}
"""


def read(directory: Path, text: str, name: str = "list.csv", **names: str) -> list[ListedPayment]:
    path = directory / name
    path.write_text(text)
    return list(provider_file.read(path, names))


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.csv", CSV), ("a.CSV", "\ufeff" + CSV), ("a.jsonl", LINES), ("a.ndjson", LINES)],
)
def test_both_forms_are_read(name: str, text: str, tmp_path: Path) -> None:
    found = read(tmp_path, text, name)
    assert found == EXPECTED
    assert str(found[0].amount) == "10.10", "no float in between"


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    text = "Merchant Ref,Gross,currency\npay_1,1.5,EUR\n"
    [found] = read(tmp_path, text, paymentId="Merchant Ref", amount="Gross")
    assert (found.payment_id, found.amount, found.reference) == ("pay_1", Decimal("1.5"), "")
    assert found.state is ListedState.APPROVED


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("paymentId", "id", "payment 1: there is no 'paymentId' (--column)"),
        ("10.10", "10,10", "payment 1: expected a currency of ISO 4217, got '10'"),
        ("10.10", "1e", "payment 1: expected an amount such as 99.99, got '1e'"),
        ("10.10", "nan", "payment 1: expected an amount such as 99.99, got 'nan'"),
        ("JPY", "YEN", "payment 2: expected a currency of ISO 4217, got 'YEN'"),
        ("Declined", "gone", "payment 2: expected a status of approved, declined, pending"),
        ("2026-01-01T00:00:00Z", "soon", "payment 1: Invalid isoformat string: 'soon'"),
    ],
)
def test_a_wrong_line_is_named(old: str, new: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(ListError) as raised:
        read(tmp_path, CSV.replace(old, new))
    assert problem in str(raised.value)


@pytest.mark.parametrize("line", ["[1]", "{", "null"])
def test_a_line_that_is_no_object_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(ListError, match=r"line 4 is no JSON object"):
        read(tmp_path, LINES + line, "a.jsonl")


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(CSV.encode("utf-16"))
    with pytest.raises(ListError, match="not in UTF-8"):
        list(provider_file.read(path, {}))

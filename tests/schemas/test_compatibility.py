"""No change that breaks those who have coded against the last published schemas.

When it fails, choose: another change, one that only adds; or a new major version, with a way to
migrate. The rules for readers and senders are in docs/events.md.
"""

import copy
from typing import Any

import pytest

from schemas.outcomes import ErrorCode, EventType
from tests import published
from tests.published.compatibility import breaks


def changed(name: str, *path: str | int, **keywords: object) -> list[str]:
    """Return what is found if keywords at a path of a schema are others; None removes one."""
    old = published.current()[name]
    new = copy.deepcopy(old)
    place: Any = new
    for step in path:
        place = place[step]
    for keyword, value in keywords.items():
        if value is None:
            del place[keyword]
        else:
            place[keyword] = value
    return breaks(old, new, request=name == published.REQUESTED)


@pytest.mark.parametrize("name", published.last())
def test_nothing_breaks_what_is_published(name: str) -> None:
    new = published.current()
    assert name in new, "a message is gone"
    assert breaks(published.last()[name], new[name], request=name == published.REQUESTED) == []


def test_every_message_but_new_ones_is_published() -> None:
    """A release copies the files; without them, the test above compares nothing."""
    assert published.last().keys() >= {
        "payment-requested",
        "payment-processed",
        "payment-failed",
        "audit-event",
    }


EVERY_FIELD = [
    (name, field) for name, schema in published.current().items() for field in schema["properties"]
]


@pytest.mark.parametrize(("name", "field"), EVERY_FIELD)
def test_a_field_that_is_removed_or_renamed_is_noticed(name: str, field: str) -> None:
    old = published.current()[name]
    for renamed in (None, "other"):
        new = copy.deepcopy(old)
        schema = new["properties"].pop(field)
        new["required"] = [each for each in new["required"] if each != field]
        if renamed:
            new["properties"][renamed] = schema
        assert f"$.{field}: is gone" in breaks(old, new, request=name == published.REQUESTED)


@pytest.mark.parametrize(
    ("name", "path", "keywords"),
    [
        # The request: what was accepted no longer is.
        (
            "payment-requested",
            (),
            {
                "required": [
                    "paymentId",
                    "userId",
                    "amount",
                    "currency",
                    "paymentMethod",
                    "metadata",
                ]
            },
        ),
        ("payment-requested", ("properties", "userId"), {"maxLength": 254}),
        ("payment-requested", ("properties", "userId"), {"minLength": 2}),
        ("payment-requested", ("properties", "userId"), {"pattern": "^u"}),
        ("payment-requested", ("properties", "userId"), {"enum": ["u"]}),
        ("payment-requested", ("properties", "amount"), {"type": "number"}),
        ("payment-requested", ("properties", "amount"), {"exclusiveMaximum": 10**11}),
        ("payment-requested", ("properties", "amount"), {"multipleOf": 1}),
        ("payment-requested", ("properties", "metadata"), {"type": "object"}),
        ("payment-requested", ("properties", "currency"), {"enum": ["EUR"]}),
        ("payment-requested", ("allOf", 0, "if", "properties", "currency"), {"enum": ["JPY"]}),
        # Events: what was promised no longer holds.
        ("payment-processed", (), {"required": ["eventId"]}),
        ("payment-processed", ("properties", "userId"), {"maxLength": 256}),
        ("payment-processed", ("properties", "userId"), {"maxLength": None}),
        ("payment-processed", ("properties", "userId"), {"type": ["string", "null"]}),
        ("payment-processed", ("properties", "amount"), {"type": "string"}),
        ("payment-processed", ("properties", "amount"), {"exclusiveMinimum": -1}),
        ("payment-processed", ("properties", "eventType"), {"const": "payment.approved"}),
        ("payment-processed", ("properties", "eventType"), {"const": None}),
        ("payment-processed", ("properties", "eventId"), {"format": None}),
        ("payment-processed", ("properties", "processedAt"), {"pattern": None}),
        ("payment-processed", ("properties", "source"), {"required": ["topic"]}),
        ("payment-failed", (), {"allOf": []}),
        (
            "payment-failed",
            ("properties", "error", "properties", "code"),
            {"anyOf": [{"enum": ["invalid"]}, {"type": "string"}]},
        ),
        ("payment-failed", ("properties", "error", "properties", "code"), {"anyOf": None}),
        ("audit-event", ("allOf", 0, "then"), {"required": []}),
        (
            "audit-event",
            ("allOf", 2, "if", "properties", "eventType"),
            {"enum": ["payment.duplicate"]},
        ),
    ],
)
def test_a_change_that_breaks_is_noticed(
    name: str, path: tuple[str | int, ...], keywords: dict[str, object]
) -> None:
    assert changed(name, *path, **keywords) != []


@pytest.mark.parametrize(
    ("name", "path", "keywords"),
    [
        ("payment-requested", ("properties",), {"note": {"type": "string"}}),
        ("payment-requested", ("properties", "userId"), {"maxLength": 300}),
        ("payment-requested", ("properties", "userId"), {"type": ["string", "null"]}),
        ("payment-requested", (), {"required": ["paymentId"]}),
        ("payment-processed", ("properties",), {"note": {"type": "string"}}),
        ("payment-processed", ("properties", "userId"), {"maxLength": 200}),
        ("payment-processed", ("properties", "userId"), {"description": "Somebody."}),
        ("payment-failed", ("properties", "error", "properties", "code"),
         {"anyOf": [{"enum": [*map(str, ErrorCode), "sanctioned"]}, {"type": "string"}]}),
        ("audit-event", ("properties", "eventType"),
         {"anyOf": [{"enum": [*map(str, EventType), "payment.late"]},
                    {"type": "string"}]}),
        ("audit-event", ("allOf", 2, "if", "properties", "eventType"),
         {"enum": ["payment.conflict", "payment.duplicate", "payment.triplicate"]}),
    ],
)  # fmt: skip
def test_an_addition_is_not(
    name: str, path: tuple[str | int, ...], keywords: dict[str, object]
) -> None:
    assert changed(name, *path, **keywords) == []


def test_a_new_currency_of_requests_is_an_addition() -> None:
    old = published.current()["payment-requested"]
    new = copy.deepcopy(old)
    for schema in (new["properties"]["currency"], new["allOf"][1]["if"]["properties"]["currency"]):
        schema["enum"] = [*schema["enum"], "XYZ"]
    assert breaks(old, new, request=True) == []


def test_a_keyword_that_nobody_judges_is_refused() -> None:
    old = published.current()["payment-processed"]
    with pytest.raises(ValueError, match="maxProperties"):
        breaks(old, old | {"maxProperties": 3}, request=False)

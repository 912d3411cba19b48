"""Whatever a provider writes, its decision stands and can be published."""

import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dataflow.gateways.port import (
    Approved,
    DeclineBasis,
    Declined,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
)
from dataflow.gateways.replies import NO_REFERENCE, Publishable, quoted
from schemas import events
from schemas.events import EVENT_OVERHEAD_BYTES, Records
from schemas.outcomes import DECLINE_CODES, INVALID_RECORD, ErrorCode
from tests import published
from tests.gateways.sample_requests import make_request, make_requests
from tests.support.card_numbers import card_numbers

VISA = "4111111111111111"
RECORDS, OFFSET = Records("t" * 249, 2**31 - 1), 2**48 - 1
EVENT_ID, SOURCE = RECORDS.event_id(OFFSET), RECORDS.source(OFFSET)
AT = events.instant(1767225600)

any_text = st.text(
    st.characters() | st.characters(categories=["Cs", "Cc", "Cf", "Zl", "Zp"]), max_size=600
) | st.text(max_size=300).map(lambda text: text * 50)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.binary() | any_text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)
codes = st.sampled_from(ErrorCode) | st.sampled_from(ErrorCode).map(str) | anything
replies = st.one_of(
    st.builds(Approved, anything),
    st.builds(Declined, codes, anything, anything, anything),
    st.builds(Declined, codes, anything, basis=st.sampled_from(DeclineBasis) | anything),
    st.builds(Declined, st.sampled_from(ErrorCode), any_text, st.booleans()),
)


def fit(*given_replies: Reply) -> list[Reply]:
    return Publishable()(make_requests(len(given_replies)), list(given_replies))


def approved(reference: Any) -> str:
    (reply,) = fit(Approved(reference))
    assert isinstance(reply, Approved)
    return reply.reference


def declined(
    code: Any = ErrorCode.DECLINED,
    message: Any = "No.",
    *,
    retryable: Any = False,
    provider_code: Any = None,
) -> Declined:
    (reply,) = fit(Declined(code, message, retryable, provider_code))
    assert isinstance(reply, Declined)
    return reply


def event_of(reply: Reply) -> bytes:
    """Return what is published, without what the request brings."""
    request = make_request()
    if isinstance(reply, Approved):
        event = events.encode(events.processed(EVENT_ID, SOURCE, request, reply.reference, AT))
        published.assert_valid(published.PROCESSED, event)
        return event
    assert isinstance(reply, Declined)
    error = events.error_of(reply)
    event = events.encode(events.declined(EVENT_ID, SOURCE, request, error, AT))
    published.assert_valid(published.FAILED, event)
    return event


@given(st.lists(replies, min_size=1, max_size=5))
@example([Approved("\ud800")])
@example([Approved("x" * 10_000)])
@example([Approved("\x01" * 10_000)])
@example([Declined([], {}, b"")])  # type: ignore[arg-type]
@example([Declined(ErrorCode.DECLINED, "\udfff" * 600, retryable=True)])
@example([Declined(ErrorCode.DECLINED, "No.", False, None, [])])  # type: ignore[arg-type]  # noqa: FBT003
def test_any_reply_can_be_published_and_keeps_its_decision(given_replies: list[Reply]) -> None:
    for before, after in zip(given_replies, fit(*given_replies), strict=True):
        assert type(after) is type(before)
        event = event_of(after)
        assert len(event) < EVENT_OVERHEAD_BYTES
        read = msgspec.json.decode(event)
        if isinstance(before, Declined) and isinstance(after, Declined):
            is_basis = isinstance(before.basis, DeclineBasis)
            assert after.basis is (before.basis if is_basis else DeclineBasis.DECISION)
        if isinstance(after, Approved):
            words = read["gatewayReference"]
            assert 1 <= len(words) <= 255
        else:
            assert isinstance(after, Declined)
            words = read["error"]["message"]
            assert 1 <= len(words) <= 500
            assert words == after.message, "cut again"
            assert read["error"]["code"] in DECLINE_CODES
            assert read["error"].get("providerCode") == after.provider_code
            words += after.provider_code or ""
            assert type(read["error"]["retryable"]) is bool
        assert not any(ord(each) < 32 or 127 <= ord(each) < 160 for each in words)


@given(st.lists(replies, min_size=1, max_size=5))
def test_the_same_reply_becomes_the_same_alone_and_among_others(given_replies: list[Reply]) -> None:
    """After a crash a payment is charged again, maybe with others."""
    together = fit(*given_replies)
    assert repr(together) == repr([fit(each)[0] for each in given_replies])
    assert fit(*together) == together, "what is fit is not changed again"


def test_fit_replies_are_handed_on_as_they_are() -> None:
    given_replies: list[Reply] = [
        Approved("pi_3MtwBwLkdIwHu7ix28a3tqPa"),
        Approved(VISA),
        Approved("Zahlung 7, für Łukasz"),
        Approved("r" * 255),
        Approved("non\u00a0breaking"),
        Unknown("HTTP 503"),
        NotExecuted("\ud800"),
        Pending(""),
        Misconfigured("x" * 1000),
        *(Declined(code, "m" * 500, retryable=True) for code in DECLINE_CODES),
        *(Declined(code, "No.", retryable=True, provider_code="c" * 64) for code in DECLINE_CODES),
    ]
    for before, after in zip(given_replies, fit(*given_replies), strict=True):
        assert after is before


@pytest.mark.parametrize(
    ("reference", "published"),
    [
        ("ch\ud800_1\n\x00\x9f", "ch\ufffd_1\ufffd\ufffd\ufffd"),
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("x" * 256, "x" * 254 + "…"),
        (8515131751004933, "8515131751004933"),
        ("", NO_REFERENCE),
        (None, NO_REFERENCE),
        (True, NO_REFERENCE),
        (10**300, NO_REFERENCE),
        pytest.param(10**5000, NO_REFERENCE, id="more digits than Python writes out"),
        (["ch_1"], NO_REFERENCE),
        (b"ch_1", NO_REFERENCE),
    ],
)
def test_a_reference(reference: object, published: str) -> None:
    assert approved(reference) == published


@given(card_numbers())
def test_a_reference_of_digits_stays_readable(card: str) -> None:
    """It is an id, without which the charge cannot be found."""
    assert approved(card) == card


@pytest.mark.parametrize(
    ("code", "published", "provider_code"),
    [
        ("do_not_honor", ErrorCode.DECLINED, "do_not_honor"),
        (51, ErrorCode.DECLINED, "51"),
        ("a\x00b", ErrorCode.DECLINED, "a\ufffdb"),
        (VISA, ErrorCode.DECLINED, "*" * 16),
        ("c" * 99, ErrorCode.DECLINED, f"{'c' * 63}…"),
        (None, ErrorCode.DECLINED, None),
        ("", ErrorCode.DECLINED, None),
        ([], ErrorCode.DECLINED, None),
        ("card_expired", ErrorCode.CARD_EXPIRED, None),
        *((code, ErrorCode.DECLINED, str(code)) for code in sorted(INVALID_RECORD)),
    ],
)
def test_a_code_of_a_decline(code: object, published: ErrorCode, provider_code: str | None) -> None:
    reply = declined(code)
    assert type(reply.code) is ErrorCode
    assert (reply.code, reply.provider_code) == (published, provider_code)
    assert reply.message == "No."
    assert declined(code, provider_code="theirs").provider_code == "theirs"


@pytest.mark.parametrize(
    ("code", "published"),
    [
        ("do_not_honor", "do_not_honor"),
        (51, "51"),
        ("a\nb\ud800", "a\ufffdb\ufffd"),
        (f"card {VISA}", "card " + "*" * 16),
        ("c" * 65, "c" * 63 + "…"),
        ("", None),
        ([1], None),
        (True, None),
    ],
)
def test_a_code_of_the_provider(code: object, published: str | None) -> None:
    reply = declined(ErrorCode.CARD_EXPIRED, provider_code=code)
    assert reply == Declined(
        ErrorCode.CARD_EXPIRED, "No.", retryable=False, provider_code=published
    )


@pytest.mark.parametrize(
    ("message", "published"),
    [
        ("Do not honor.\nCall us.", "Do not honor.\ufffdCall us."),
        ("x" * 501, "x" * 499 + "…"),
        (f"The card {VISA} has expired.", f"The card {'*' * 16} has expired."),
        ("x" * 490 + VISA, "x" * 490 + "*" * 9 + "…"),
        ("", "The payment was declined."),
        (None, "The payment was declined."),
        ({"text": "no"}, "The payment was declined."),
    ],
)
def test_a_message_of_a_decline(message: object, published: str) -> None:
    assert declined(message=message).message == published


@pytest.mark.parametrize("retryable", [1, 0, None, "true", "false", [1]])
def test_only_true_is_retryable(retryable: object) -> None:
    assert declined(retryable=retryable).retryable is False
    assert declined(retryable=True).retryable is True


class TestQuoted:
    @pytest.mark.parametrize(
        ("reason", "text"),
        [
            ("HTTP 503", "HTTP 503"),
            ("a\ud800\nb", "a\ufffd\ufffdb"),
            (f"no route for {VISA}", f"no route for {'*' * 16}"),
            ("x" * 201, "x" * 199 + "…"),
            (ValueError("no such key"), "ValueError: no such key"),
            (None, "NoneType"),
            ("", "str"),
        ],
    )
    def test_a_reason(self, reason: object, text: str) -> None:
        assert quoted(reason) == text

    def test_an_error_that_cannot_be_printed_is_named(self) -> None:
        class Unprintable(Exception):  # noqa: N818  (its name is what is looked for)
            def __str__(self) -> str:
                raise RuntimeError

        assert quoted(Unprintable()) == "Unprintable"


class TestTheLog:
    def test_a_changed_reply_is_a_line_with_what_is_published(self) -> None:
        with capture_logs() as lines:
            fit(Approved("ok"), Approved("\ud800"), Approved(""))
        assert lines == [
            {
                "event": "gateway reply changed: parts of it cannot be published",
                "log_level": "warning",
                "paymentId": "pay_1",
                "published": "Approved(reference='\ufffd')",
                "of_this_batch": 2,
            }
        ]
        json.dumps(lines).encode()

    def test_there_is_one_a_second_however_many_there_are(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        publishable = Publishable()
        with capture_logs() as lines:
            for n, now_s in enumerate([10.0, 10.5, 10.9, 11.0, 11.9, 12.5]):
                monkeypatch.setattr(time, "monotonic", lambda now_s=now_s: now_s)
                publishable([make_request(f"pay_{n}")], [Approved("")])
        assert [line["paymentId"] for line in lines] == ["pay_0", "pay_3", "pay_5"]

    def test_unchanged_replies_are_not_logged(self) -> None:
        with capture_logs() as lines:
            fit(
                Approved("non\u00a0breaking"),
                Declined(ErrorCode.DECLINED, "m" * 500, retryable=True),
            )
        assert lines == []

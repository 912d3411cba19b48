"""Stripe: the tables of its answers, its behaviour against a fake of it, and its contract."""

import asyncio
import json
import time
from decimal import Decimal
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataflow.config.secret import Secret
from dataflow.fake_provider.book import Payment
from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import decimals
from dataflow.gateways.http_client import Response
from dataflow.gateways.port import (
    Approved,
    DeclineBasis,
    Declined,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Unknown,
    idempotency_key,
)
from dataflow.gateways.stripe import StripeGateway, form_of
from dataflow.gateways.stripe_answers import ToCancel, of_cancel, of_charge, of_probe
from schemas import money
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest
from tests.gateways.contract import charge, play
from tests.gateways.provider_contract import ProviderContract
from tests.gateways.sample_requests import make_request, new_id

T = TypeVar("T")
KEY = Secret("sk_test_fake")


def stripe(provider: FakeProvider, *, timeout_s: float = 60, key: Secret = KEY) -> StripeGateway:
    return StripeGateway(key, timeout_s=timeout_s, url=provider.url)


class TestStripe(ProviderContract):
    USER = "cus_1"
    METHOD = "pm_card_visa"
    CURRENCY = "usd"

    def build(self) -> Gateway:
        return stripe(self.provider)


# ---- what is sent ----


def of(**changes: object) -> PaymentRequest:
    return make_request(**{"userId": "cus_1", "paymentMethod": "pm_1"} | changes)  # type: ignore[arg-type]


def test_a_payment_is_sent_as_a_form_of_its_content() -> None:
    assert form_of(of(metadata={"orderId": "o_1"})) == {
        "amount": "9999",
        "currency": "usd",
        "confirm": "true",
        "off_session": "true",
        "payment_method": "pm_1",
        "payment_method_types[]": "card",
        "customer": "cus_1",
        "metadata[paymentId]": "pay_123",
    }


def test_equal_contents_are_sent_alike() -> None:
    """A copy with another spelling is no conflict, and must not be one at the provider."""
    assert form_of(of(amount="99.990", metadata={"a": 1})) == form_of(of(amount="9.999e1"))


@pytest.mark.parametrize(
    "changes",
    [
        {"paymentMethod": "4111111111111111"},
        {"paymentMethod": "card"},
        {"paymentMethod": "pm_"},
        {"paymentMethod": "pm_1/../x"},
        {"userId": "user_1"},
        {"userId": "cus_1\n"},
        {"currency": "CLF", "amount": "1.5"},
        {"currency": "KWD", "amount": "1.001"},
        {"currency": "MGA", "amount": "1.5"},
    ],
)
def test_amounts_that_stripe_does_not_take_are_declined_without_a_call(
    changes: dict[str, str],
) -> None:
    gateway = StripeGateway(KEY, timeout_s=1, url="http://127.0.0.1:1")
    reply = play(gateway, lambda: gateway.charge(of(**changes), "key"))
    assert isinstance(reply, Declined)
    assert reply.code is ErrorCode.METHOD_NOT_SUPPORTED
    assert reply.basis is DeclineBasis.NOT_SENT


@pytest.mark.parametrize(
    ("currency", "amount", "minor"),
    [
        ("USD", "99.99", 9999),
        ("JPY", "100", 100),
        ("ISK", "100", 10_000),
        ("UGX", "100", 10_000),
        ("KWD", "1.25", 1250),
        ("KWD", "1.251", None),
        ("MGA", "100", 100),
        ("MGA", "1.2", None),
        ("CLF", "1", None),
        ("HUF", "10.50", 1050),
        ("TWD", "10.50", 1050),
    ],
)
def test_the_minor_units_are_those_of_stripe(currency: str, amount: str, minor: int | None) -> None:
    assert decimals.to_minor(Decimal(amount), currency, decimals.STRIPE) == minor


@given(st.sampled_from(sorted(decimals.STRIPE)), st.integers(1, 10**14))
def test_an_amount_comes_back_as_it_was_sent_or_is_not_sent(currency: str, units: int) -> None:
    amount = Decimal(units).scaleb(-money.EXPONENTS.get(currency, 2))
    minor = decimals.to_minor(amount, currency, decimals.STRIPE)
    if minor is not None:
        assert decimals.to_major(minor, currency, decimals.STRIPE) == amount


def test_every_whole_amount_can_be_sent_in_every_currency_of_the_table() -> None:
    for currency in decimals.STRIPE:
        minor = decimals.to_minor(Decimal(7), currency, decimals.STRIPE)
        assert minor is not None
        assert decimals.to_major(minor, currency, decimals.STRIPE) == 7


# ---- what an answer is ----


def response(status: int, body: Any = None, **headers: str) -> Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(status, named, content)


def intent(status: str, **more: object) -> dict[str, Any]:
    return {"id": "pi_1", "object": "payment_intent", "status": status} | more


def error(**fields: object) -> dict[str, Any]:
    return {"error": {"type": "invalid_request_error", "message": "No."} | fields}


CARD = {"type": "card_error", "code": "card_declined", "decline_code": "lost_card"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(200, intent("succeeded")), Approved("pi_1")),
        (response(200, intent("processing")), Pending("pi_1")),
        (response(200, intent("requires_action")), ToCancel("pi_1")),
        (response(429, error(code="rate_limit")), NotExecuted("", None, too_many=True)),
        (
            response(429, error(code="lock_timeout"), Retry_After="2"),
            NotExecuted("", 2, too_many=True),
        ),
        (
            response(429, error(), Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"),
            NotExecuted("", None, too_many=True),
        ),
        (response(401, error()), Misconfigured("")),
        (response(403, error()), Misconfigured("")),
        (response(404, error()), Misconfigured("")),
        (response(404, b"<html>"), Misconfigured("")),
        (response(400, error()), Misconfigured("")),
        (response(400, error(code="parameter_unknown", param="foo")), Misconfigured("")),
        (response(400, error(code="payment_method_unactivated")), Misconfigured("")),
        (response(400, error(type="idempotency_error")), Unknown("", saved=True)),
        (response(409, error()), Unknown("")),
        (response(424, error()), Unknown("")),
        (response(502, b"<html>"), Unknown("")),
        (response(503, error()), Unknown("")),
        (response(504, b""), Unknown("")),
        (response(503, error(), Stripe_Should_Retry="false"), Unknown("", saved=True)),
        (response(500, error()), Unknown("", saved=True)),
        (response(500, b"<html>"), Unknown("", saved=True)),
        (response(500, error(), Stripe_Should_Retry="true"), Unknown("")),
        # 200 is no success, 4xx is no decline
        (response(200, b"<html>"), Unknown("")),
        (response(200, {}), Unknown("")),
        (response(200, []), Unknown("")),
        (response(200, intent("requires_capture")), Unknown("", saved=True)),
        (response(200, intent("a_new_status")), Unknown("", saved=True)),
        (response(200, intent("requires_payment_method")), Unknown("", saved=True)),
        (response(201, intent("succeeded")), Unknown("")),
        (response(302, b"", Location="https://elsewhere"), Unknown("")),
        (response(402, b"<html>"), Unknown("")),
        (response(402, error()), Unknown("")),
    ],
)
def test_an_answer_to_a_charge(answer: Response, expected: Reply | ToCancel) -> None:
    reply = of_charge(answer)
    assert type(reply) is type(expected)
    for name in ("saved", "retry_after_s", "too_many", "reference", "id"):
        assert getattr(reply, name, None) == getattr(expected, name, None)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"code": "amount_too_large", "param": "amount"}, ErrorCode.LIMIT_EXCEEDED),
        ({"code": "amount_too_small", "param": "amount"}, ErrorCode.LIMIT_EXCEEDED),
        ({"code": "invalid_currency", "param": "currency"}, ErrorCode.METHOD_NOT_SUPPORTED),
        ({"param": "currency"}, ErrorCode.METHOD_NOT_SUPPORTED),
        ({"code": "resource_missing", "param": "customer"}, ErrorCode.INVALID_PAYMENT_METHOD),
        ({"code": "resource_missing", "param": "payment_method"}, ErrorCode.INVALID_PAYMENT_METHOD),
        ({"code": "payment_method_unexpected_state"}, ErrorCode.INVALID_PAYMENT_METHOD),
        # One payment of whoever sends it must not stop all others.
        ({"code": "parameter_invalid_integer", "param": "amount"}, ErrorCode.LIMIT_EXCEEDED),
        ({"param": "metadata[paymentId]"}, ErrorCode.DECLINED),
    ],
)
@pytest.mark.parametrize("status", [400, 404])
def test_a_refusal_of_this_payment_is_a_decline(
    status: int, fields: dict[str, str], code: ErrorCode
) -> None:
    reply = of_charge(response(status, error(**fields)))
    assert reply == Declined(
        code, "No.", retryable=False, provider_code=fields.get("code"), basis=DeclineBasis.REFUSAL
    )


def test_a_card_that_its_payer_has_removed_does_not_stop_the_other_payments() -> None:
    """Stripe states neither a code nor a parameter there."""
    message = (
        "The provided PaymentMethod was previously used with a PaymentIntent without Customer "
        "attachment, or was detached from a Customer. It may not be used again."
    )
    reply = of_charge(response(400, error(message=message)))
    assert reply == Declined(
        ErrorCode.INVALID_PAYMENT_METHOD, message, retryable=False, basis=DeclineBasis.REFUSAL
    )
    with_code = error(message=message, code="parameter_unknown", param="foo")
    assert isinstance(of_charge(response(400, with_code)), Misconfigured)
    without_url = "As payment methods may redirect, a `return_url` is needed."
    assert isinstance(of_charge(response(400, error(message=without_url))), Misconfigured)


DECLINES: dict[tuple[str, bool], str] = {
    ("insufficient_funds", True): "insufficient_funds",
    ("card_expired", False): "expired_card",
    ("fraud_suspected", False): "fraudulent merchant_blacklist stolen_card lost_card pickup_card"
    " restricted_card security_violation",
    ("limit_exceeded", True): "card_velocity_exceeded withdrawal_count_limit_exceeded",
    ("limit_exceeded", False): "amount_too_large invalid_amount",
    ("method_not_supported", False): "card_not_supported currency_not_supported"
    " service_not_allowed transaction_not_allowed not_permitted",
    ("authentication_required", True): "authentication_required authentication_not_handled",
    ("invalid_payment_method", False): "incorrect_number incorrect_cvc incorrect_zip"
    " invalid_account invalid_expiry_month invalid_expiry_year invalid_number invalid_cvc",
    ("declined", True): "processing_error issuer_not_available try_again_later reenter_transaction",
    ("declined", False): "do_not_honor generic_decline call_issuer no_such_code",
}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [(theirs, ours) for ours, words in DECLINES.items() for theirs in words.split()],
)
def test_a_card_error_is_a_decline(theirs: str, ours: tuple[str, bool]) -> None:
    code, retryable = ours
    expected = Declined(ErrorCode(code), "No.", retryable, theirs)
    by_decline_code = error(**CARD | {"decline_code": theirs})
    assert of_charge(response(402, by_decline_code)) == expected
    assert of_charge(response(402, error(type="card_error", code=theirs))) == expected


@pytest.mark.parametrize(
    ("theirs", "advice", "code", "retryable"),
    [
        ("do_not_honor", "try_again_later", "declined", True),
        ("insufficient_funds", "do_not_try_again", "insufficient_funds", False),
        ("generic_decline", "confirm_card_data", "invalid_payment_method", False),
        ("lost_card", "no_such_advice", "fraud_suspected", False),
    ],
)
def test_the_advice_overrules_the_code(
    theirs: str, advice: str, code: str, *, retryable: bool
) -> None:
    reply = of_charge(
        response(402, error(**CARD | {"decline_code": theirs, "advice_code": advice}))
    )
    assert isinstance(reply, Declined)
    assert (reply.code, reply.retryable) == (code, retryable)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (response(200, intent("canceled", cancellation_reason="abandoned")), Declined),
        (response(400, error(payment_intent=intent("succeeded"))), Approved),
        (response(400, error(payment_intent=intent("processing"))), Pending),
        (response(400, error()), Unknown),
        (response(200, intent("requires_action")), Unknown),
        (response(500, error()), Unknown),
        (response(429, error()), Unknown),
        (response(200, b"<html>"), Unknown),
        (response(200, intent("succeeded") | {"id": "pi_2"}), Unknown),
        (response(400, error(payment_intent=intent("succeeded") | {"id": "pi_2"})), Unknown),
    ],
)
def test_an_answer_to_a_cancellation(answer: Response, kind: type[Reply]) -> None:
    reply = of_cancel(answer, "pi_1")
    assert type(reply) is kind
    assert getattr(reply, "too_many", False) == (answer.status == 429)
    if isinstance(reply, Declined):
        assert (reply.code, reply.retryable) == (ErrorCode.AUTHENTICATION_REQUIRED, True)


def test_a_payment_that_others_cancelled_is_declined_for_good() -> None:
    from_list = of_charge(response(200, intent("canceled", cancellation_reason="fraudulent")))
    assert isinstance(from_list, Declined)
    assert (from_list.code, from_list.retryable) == (ErrorCode.DECLINED, False)


def test_no_reason_has_the_key_or_a_card_number() -> None:
    for status in (400, 401, 403, 404, 409, 429, 500):
        reply = of_charge(response(status, error(code="x", message="sk_live_abc")))
        if status in {401, 403, 409, 429, 500}:
            assert "sk_live_abc" not in repr(reply)


# ---- behaviour, against the fake ----


class Case:
    """One payment, and a gateway to charge it with."""

    def __init__(self, provider: FakeProvider, ending: str = "", **changes: object) -> None:
        self.id = new_id(ending=ending)
        self.provider = provider
        self.request = of(paymentId=self.id, **{"userId": f"cus_{new_id()}"} | changes)
        self.key = idempotency_key(self.id)

    def charge(self, **options: Any) -> Reply:
        gateway = stripe(self.provider, **options)
        return play(gateway, lambda: gateway.charge(self.request, self.key))

    def lookup(self) -> Reply | None:
        gateway = stripe(self.provider)
        return play(gateway, lambda: gateway.lookup(self.request, self.key))

    def booked(self) -> list[Payment]:
        return [each for each in self.provider.book() if each.payment_id == self.id]


@pytest.mark.parametrize(
    ("fault", "first", "booked"),
    [
        ("reset_before", Unknown, 0),
        ("hang_before", Unknown, 0),
        ("html_before", Unknown, 0),
        ("unavailable", Unknown, 0),
        ("unsaved_500_before", Unknown, 0),
        ("reset_after", Unknown, 1),
        ("hang_after", Unknown, 1),
        ("half_a_body", Unknown, 1),
        ("html_after", Unknown, 1),
        ("saved_500_before", Unknown, 0),
        ("saved_500_after", Unknown, 1),
    ],
)
def test_a_lost_answer_is_unknown_and_the_charge_happens_once(
    provider: FakeProvider, fault: str, first: type[Reply], booked: int
) -> None:
    case = Case(provider)
    provider.change(faults=[{"fault": fault}])
    reply = case.charge(timeout_s=1 if fault.startswith("hang") else 60)
    assert type(reply) is first
    # A client that gives up is not waited for.
    while len(case.booked()) < booked:
        time.sleep(0.02)
    assert len(case.booked()) == booked
    provider.change(faults=[])
    assert isinstance(case.lookup(), Approved if booked else type(None))
    if not fault.startswith("saved"):
        assert isinstance(case.charge(), Approved)
        assert len(case.booked()) == 1
    else:
        again = case.charge()
        assert isinstance(again, Unknown)
        assert again.saved


def test_a_500_that_comes_true_later_is_found_later(provider: FakeProvider) -> None:
    late, soon = Case(provider), Case(provider)
    provider.change(faults=[{"fault": "saved_500_late"}], finish_after_s=3600)
    late.charge()
    assert late.lookup() is None
    provider.change(finish_after_s=0.1)
    soon.charge()
    found = None
    while found is None:
        found = soon.lookup()
    assert isinstance(found, Approved)
    assert late.lookup() is None


def test_a_provider_that_refuses_connections_has_not_charged(provider: FakeProvider) -> None:
    case = Case(provider)
    provider.outage(3600)
    assert isinstance(case.charge(), NotExecuted)
    assert isinstance(case.lookup(), Unknown)


def test_a_name_that_is_not_in_the_dns_has_not_charged() -> None:
    gateway = StripeGateway(KEY, timeout_s=60, url="https://no-such-host.invalid")
    assert isinstance(play(gateway, lambda: gateway.charge(of(), "key")), NotExecuted)


def test_a_limit_has_not_charged(provider: FakeProvider) -> None:
    case = Case(provider)
    provider.change(max_in_flight=0, retry_after_s=7)
    reply = case.charge()
    assert isinstance(reply, NotExecuted)
    assert (reply.retry_after_s, reply.too_many) == (7, True)
    provider.change(max_in_flight=None)
    assert isinstance(case.charge(), Approved)


def test_a_wrong_key_is_misconfigured_everywhere(provider: FakeProvider) -> None:
    gateway = stripe(provider, key=Secret("sk_wrong"))

    async def everything() -> list[Reply | None]:
        return [
            await gateway.charge(of(), "key"),
            await gateway.lookup(of(), "key"),
            await gateway.probe(),
        ]

    replies = play(gateway, everything)
    assert {type(reply) for reply in replies} == {Misconfigured}
    assert "sk_wrong" not in repr(replies)


def test_a_wrong_address_is_misconfigured(provider: FakeProvider) -> None:
    gateway = StripeGateway(KEY, timeout_s=60, url=f"{provider.url}/wrong")
    assert isinstance(play(gateway, lambda: gateway.charge(of(), "key")), Misconfigured)


def test_a_pending_payment_is_found_when_it_is_decided(provider: FakeProvider) -> None:
    provider.change(finish_after_s=0.5)
    succeeds = Case(provider, paymentMethod="pm_processing")
    declined = Case(provider, paymentMethod="pm_processing_decline")
    assert isinstance(succeeds.charge(), Pending)
    assert isinstance(declined.charge(), Pending)
    found: list[Reply | None] = [Pending("")]
    while any(isinstance(each, Pending) for each in found):
        found = [succeeds.lookup(), declined.lookup()]
    assert [type(each) for each in found] == [Approved, Declined]


def test_a_payment_that_needs_its_payer_is_cancelled_and_declined(provider: FakeProvider) -> None:
    case = Case(provider, paymentMethod="pm_requires_action")
    first = case.charge()
    assert isinstance(first, Declined)
    assert first.code is ErrorCode.AUTHENTICATION_REQUIRED
    assert [each.status for each in case.booked()] == ["canceled"], "nobody can confirm it later"
    assert case.charge() == case.lookup() == first


def test_a_payer_who_was_quicker_than_the_cancellation_has_paid(provider: FakeProvider) -> None:
    case = Case(provider, paymentMethod="pm_acts_late")
    assert isinstance(case.charge(), Approved)
    assert [each.status for each in case.booked()] == ["succeeded"]


def test_a_decline_is_the_same_by_charge_replay_and_lookup(provider: FakeProvider) -> None:
    case = Case(provider, paymentMethod="pm_card_visa_chargeDeclinedInsufficientFunds")
    first = case.charge()
    assert isinstance(first, Declined)
    assert first.provider_code == "insufficient_funds"
    assert case.charge() == case.lookup() == first


def test_a_payment_of_another_content_under_our_key_is_nothing_to_trust(
    provider: FakeProvider,
) -> None:
    case = Case(provider)
    case.charge()
    case.request = of(paymentId=case.id, userId=case.request.user_id, amount=1)
    reply = case.charge()
    assert isinstance(reply, Unknown)
    assert reply.saved
    found = case.lookup()
    assert isinstance(found, Unknown)
    assert found.saved


ANSWERED = {"metadata": {"paymentId": "pay_123"}, "amount": 9999, "currency": "usd"}


def answered(*answers: Response | Unknown | Misconfigured) -> tuple[StripeGateway, list[str]]:
    """Return a gateway that gets these answers, and the paths that it has asked."""
    gateway, paths, left = StripeGateway(KEY, timeout_s=1), [], [*answers]

    async def send(_method: str, path: str, **_: object) -> object:
        paths.append(path)
        return left.pop(0)

    gateway._client.send = send  # type: ignore[assignment]
    return gateway, paths


@pytest.mark.parametrize(
    "other",
    [
        {"metadata": {"paymentId": "pay_124"}},
        {"metadata": {}},
        {"amount": 999},
        {"amount": None},
        {"currency": "eur"},
    ],
)
@pytest.mark.parametrize("status", ["succeeded", "requires_action", "processing", "canceled"])
def test_an_answer_about_another_payment_decides_nothing(
    status: str, other: dict[str, Any]
) -> None:
    theirs = intent(status, **ANSWERED | other)
    for answer in (
        response(200, theirs),
        response(402, error(**CARD, payment_intent=theirs)),
    ):
        gateway, paths = answered(answer)
        reply = play(gateway, lambda gateway=gateway: gateway.charge(of(), "key"))  # type: ignore[misc]
        assert reply == Unknown("the answer is about another payment")
        assert len(paths) == 1, "another payment is not cancelled"
    gateway, _ = answered(response(200, intent("succeeded", **ANSWERED)))
    assert play(gateway, lambda: gateway.charge(of(), "key")) == Approved("pi_1")


def page(*found: dict[str, Any], more: bool = False) -> Response:
    return response(200, {"data": found, "has_more": more})


def test_an_approval_of_a_customer_with_many_payments_is_found() -> None:
    other = intent("succeeded", **ANSWERED | {"metadata": {}})
    ours = intent("succeeded", **ANSWERED)
    gateway, paths = answered(page(other, more=True), page(other, ours, more=True))
    assert play(gateway, lambda: gateway.lookup(of(), "key")) == Approved("pi_1")
    assert len(paths) == 2
    declined = intent("requires_payment_method", **ANSWERED, last_payment_error=CARD)
    gateway, paths = answered(*[page(declined, more=True)] * 20)
    assert isinstance(play(gateway, lambda: gateway.lookup(of(), "key")), Unknown)
    assert len(paths) == 20, "an older one may have moved money"


def test_a_look_up_that_is_one_call_too_many_slows_down_and_proves_nothing() -> None:
    gateway, _ = answered(response(429, error()))
    found = play(gateway, lambda: gateway.lookup(of(), "key"))
    assert isinstance(found, Unknown)
    assert found.too_many


def test_a_payment_that_cannot_be_cancelled_is_not_declined_by_another_one() -> None:
    declined = intent("requires_payment_method", **ANSWERED, last_payment_error=CARD)
    waiting = intent("requires_action", **ANSWERED)
    for trouble in (Unknown("lost"), Misconfigured("its certificate is not trusted")):
        gateway, _ = answered(page(declined, waiting), trouble)
        reply = play(gateway, lambda gateway=gateway: gateway.lookup(of(), "key"))  # type: ignore[misc]
        assert reply == trouble


def test_two_charges_after_the_end_of_a_key_count_as_an_approval(provider: FakeProvider) -> None:
    case = Case(provider, paymentMethod="pm_card_visa")
    case.charge()
    provider.change(key_life_s=0)
    case.charge()
    assert len(case.booked()) == 2, "the trap is there"
    assert isinstance(case.lookup(), Approved)


def test_a_lookup_goes_through_all_pages(provider: FakeProvider) -> None:
    first = Case(provider)

    async def many() -> None:
        gateway = stripe(provider)
        requests = [
            of(paymentId=f"{first.id}_{n}", userId=first.request.user_id) for n in range(130)
        ]
        await charge(gateway, [first.request])
        await charge(gateway, requests)
        await gateway.close()

    asyncio.run(many())
    assert isinstance(first.lookup(), Approved)
    other = Case(provider, userId=first.request.user_id)
    assert other.lookup() is None


def test_the_same_bytes_are_sent_again(provider: FakeProvider) -> None:
    """The fake compares them: anything that differed would be an `idempotency_error`."""
    case = Case(provider)
    assert case.charge() == case.charge()
    assert provider.asked(case.key) == 2


def test_only_a_probe_that_works_finds_nothing() -> None:
    assert of_probe(response(200, {"data": [], "has_more": False})) is None
    assert isinstance(of_probe(response(500, error())), Unknown)
    assert isinstance(of_probe(response(403, error())), Misconfigured)


@pytest.mark.parametrize("payment_id", ["ü&=+ 1%", "a\nb", "']; drop", "x" * 255])
def test_any_payment_id_arrives_and_is_found(provider: FakeProvider, payment_id: str) -> None:
    case = Case(provider)
    case.id += payment_id
    case.id = case.id[-255:]
    case.request = of(paymentId=case.id, userId=case.request.user_id)
    case.key = idempotency_key(case.id)
    assert isinstance(case.charge(), Approved)
    assert [each.payment_id for each in case.booked()] == [case.id]
    assert isinstance(case.lookup(), Approved)

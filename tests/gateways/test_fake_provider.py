"""The fake provider does what its tests, and the gateways', rely on: with real sockets.

Each test speaks HTTP by hand: a mistake of a gateway cannot hide here.
"""

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import pytest

from dataflow.fake_provider.behaviour import Fault, FaultRule, Limiter, Settings, choose, decide
from dataflow.fake_provider.book import Payment
from dataflow.fake_provider.process import FakeProvider
from tests import ROOT
from tests.gateways.sample_requests import new_id
from tests.support.kafka import ports

LONG_S = 8.0
"""A call that takes so long is still in flight when the next one comes, also on a slow machine."""


class Answer(NamedTuple):
    status: int
    body: Any
    replayed: bool


def post(
    provider: FakeProvider,
    payment_id: str,
    *,
    key: str = "",
    secret: str = "sk_test_fake",
    timeout_s: float = 60,
    amount: str = "99.99",
    user: str = "user_1",
    method: str = "card",
) -> Answer:
    """Charge in the shape of our contract."""
    body = {"paymentId": payment_id, "userId": user, "amount": amount, "currency": "USD"}
    return ask(
        provider,
        "POST",
        "/v1/payments",
        json.dumps(body | {"paymentMethod": method}),
        key or payment_id,
        secret,
        timeout_s,
    )


def post_stripe(
    provider: FakeProvider, payment_id: str, *, key: str = "", **changes: str
) -> Answer:
    form = {
        "amount": "9999",
        "currency": "usd",
        "confirm": "true",
        "off_session": "true",
        "payment_method": "pm_card_visa",
        "payment_method_types[]": "card",
        "customer": "cus_1",
        "metadata[paymentId]": payment_id,
    }
    return ask(
        provider, "POST", "/v1/payment_intents", urlencode(form | changes), key or payment_id
    )


def ask(
    provider: FakeProvider,
    method: str,
    path: str,
    body: str | None = None,
    key: str = "",
    secret: str = "sk_test_fake",
    timeout_s: float = 60,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", provider.port, timeout=timeout_s)
    headers = {"Authorization": f"Bearer {secret}", "Stripe-Version": "2026-01-28"}
    if key:
        headers["Idempotency-Key"] = key
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        content = response.read()
    finally:
        connection.close()
    json_type = response.headers.get_content_type() == "application/json"
    return Answer(
        response.status,
        json.loads(content) if json_type else content,
        response.headers.get("Idempotent-Replayed") == "true",
    )


def charged(provider: FakeProvider, payment_id: str) -> list[Payment]:
    """Return what the book has of a payment."""
    return [each for each in provider.book() if each.payment_id == payment_id]


# ---- keys ----


@pytest.mark.parametrize("pay", [post, post_stripe])
def test_the_same_key_is_charged_once_and_gets_the_same_answer(
    provider: FakeProvider, pay: Callable[..., Answer]
) -> None:
    payment_id = new_id()
    first, again = pay(provider, payment_id), pay(provider, payment_id)
    assert first == (200, again.body, False)
    assert again.replayed
    assert len(charged(provider, payment_id)) == 1
    assert provider.asked(payment_id) == 2


def test_a_key_is_a_new_charge_once_its_life_is_over(provider: FakeProvider) -> None:
    payment_id = new_id()
    first = post(provider, payment_id)
    provider.change(key_life_s=0)
    second = post(provider, payment_id)
    assert second.body["reference"] != first.body["reference"]
    assert len(charged(provider, payment_id)) == 2


def test_other_content_under_the_same_key_is_refused(provider: FakeProvider) -> None:
    payment_id, stripe_id = new_id(), new_id()
    post(provider, payment_id)
    assert post(provider, payment_id, amount="99.98").status == 422
    post_stripe(provider, stripe_id)
    refused = post_stripe(provider, stripe_id, amount="9998")
    assert (refused.status, refused.body["error"]["type"]) == (400, "idempotency_error")
    assert len(charged(provider, payment_id) + charged(provider, stripe_id)) == 2


@pytest.mark.parametrize("pay", [post, post_stripe])
def test_a_key_in_flight_is_a_conflict(provider: FakeProvider, pay: Callable[..., Answer]) -> None:
    provider.change(latency_s=LONG_S)
    payment_id = new_id()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pay, provider, payment_id)
        assert until(lambda: provider.asked(payment_id), 1)
        assert [pay(provider, payment_id).status for _ in range(3)] == [409] * 3
        assert first.result().status == 200
    assert len(charged(provider, payment_id)) == 1


# ---- SIGKILL ----


def test_the_book_and_the_keys_outlive_sigkill(tmp_path: Path) -> None:
    with FakeProvider(tmp_path / "book", ports.free(2, for_good=True)) as provider:
        provider.change(search_lag_s=7.5)
        first = post(provider, "pay_1")
        port = provider.port
        provider.kill()
        with pytest.raises(ConnectionRefusedError):
            post(provider, "pay_1")
        provider.start()
        assert provider.port == port
        again = post(provider, "pay_1")
        assert (again.body, again.replayed) == (first.body, True)
        assert len(provider.book()) == 1


def test_a_charge_under_way_at_sigkill_did_not_happen_and_can_be_repeated(
    tmp_path: Path,
) -> None:
    with (
        FakeProvider(tmp_path / "book", ports.free(2, for_good=True)) as provider,
        ThreadPoolExecutor(1) as threads,
    ):
        provider.change(latency_s=30)
        lost = threads.submit(post, provider, "pay_1")
        while provider.asked("pay_1") == 0:
            time.sleep(0.005)
        provider.kill()
        assert isinstance(lost.exception(), (http.client.HTTPException, OSError))
        provider.start()
        provider.change(latency_s=0)
        assert provider.book() == []
        assert post(provider, "pay_1").status == 200
        assert len(provider.book()) == 1


def test_it_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; "
        "from dataflow.fake_provider.process import FakeProvider; "
        "fake = FakeProvider(Path(sys.argv[1])); fake.start(); "
        "print(fake.port, flush=True); time.sleep(3600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "book")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as parent:
        assert parent.stdout
        port = int(parent.stdout.readline())
        assert until(lambda: listens(port), expected=True)
        parent.kill()
    assert until(lambda: listens(port), expected=False)


# ---- decisions ----


@pytest.mark.parametrize(
    ("method", "status", "code"),
    [
        ("pm_card_visa", "succeeded", None),
        ("pm_card_visa_chargeDeclinedInsufficientFunds", "declined", "insufficient_funds"),
        ("pm_card_chargeDeclinedExpiredCard", "declined", "expired_card"),
        ("pm_decline_lost_card", "declined", "lost_card"),
        ("card:decline_do_not_honor", "declined", "do_not_honor"),
        ("pm_processing", "processing", None),
        ("pm_processing_decline", "processing", "generic_decline"),
        ("pm_requires_action", "requires_action", None),
        ("pm_missing", "missing", None),
        ("credit_card", "succeeded", None),
    ],
)
def test_a_token_decides(method: str, status: str, code: str | None) -> None:
    decision = decide(method, "pay_1")
    assert (decision.status, decision.code) == (status, code)
    if method.startswith("pm_"):
        return
    assert decide("credit_card", f"pay_1:{method}") == decision


def test_a_declined_charge_moves_no_money_and_keeps_its_answer(provider: FakeProvider) -> None:
    payment_id = new_id()
    answers = [post_stripe(provider, payment_id, payment_method="pm_decline_lost_card")] * 2
    error = answers[0].body["error"]
    assert answers[0].status == 402
    assert (error["code"], error["decline_code"]) == ("card_declined", "lost_card")
    assert [each.status for each in charged(provider, payment_id)] == ["declined"]


def test_a_charge_that_is_processed_later_succeeds_or_is_declined(provider: FakeProvider) -> None:
    provider.change(finish_after_s=0.3)
    ids = [new_id(), new_id()]
    methods = ["pm_processing", "pm_processing_decline"]
    for payment_id, method in zip(ids, methods, strict=True):
        assert post(provider, payment_id, method=method).status == 202
    assert until(lambda: charged(provider, ids[0])[0].status, "succeeded")
    assert until(lambda: charged(provider, ids[1])[0].status, "declined")


def test_a_payer_who_never_comes_can_be_cancelled_but_not_one_who_came(
    provider: FakeProvider,
) -> None:
    waiting, acted = new_id(), new_id()
    answers = [
        post_stripe(provider, waiting, payment_method="pm_requires_action"),
        post_stripe(provider, acted, payment_method="pm_acts_late"),
    ]
    assert [each.body["status"] for each in answers] == ["requires_action"] * 2
    cancelled, refused = (
        ask(provider, "POST", f"/v1/payment_intents/{each.body['id']}/cancel", "", f"{number}-c")
        for number, each in enumerate(answers)
    )
    assert (cancelled.status, cancelled.body["status"]) == (200, "canceled")
    assert refused.status == 400
    assert refused.body["error"]["payment_intent"]["status"] == "succeeded"


# ---- limits, credentials ----


def test_the_limits_come_before_the_key(provider: FakeProvider) -> None:
    payment_id = new_id()
    provider.change(max_in_flight=0, retry_after_s=3)
    assert post(provider, payment_id).status == 429
    assert provider.asked(payment_id) == 0
    provider.change(max_in_flight=None)
    assert not post(provider, payment_id).replayed


def test_no_more_than_the_limit_are_in_flight(provider: FakeProvider) -> None:
    provider.change(max_in_flight=3, latency_s=LONG_S)
    ids = [new_id() for _ in range(3)]
    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(post, provider, each) for each in ids]
        assert until(lambda: [provider.asked(each) for each in ids], [1, 1, 1])
        too_many = [new_id() for _ in range(5)]
        assert [post(provider, each).status for each in too_many] == [429] * 5
        assert [each.result().status for each in first] == [200] * 3
    assert {each.payment_id for each in provider.book()} & {*ids, *too_many} == {*ids}


def test_a_rate_refuses_what_is_too_much(provider: FakeProvider) -> None:
    provider.change(rate_per_s=0.001)
    statuses = [post(provider, new_id()).status for _ in range(3)]
    assert statuses[1:] == [429, 429]


def test_a_wrong_secret_is_refused_before_the_key(provider: FakeProvider) -> None:
    payment_id = new_id()
    assert post(provider, payment_id, secret="sk_other").status == 401
    assert provider.asked(payment_id) == 0


def test_a_rate_is_a_bucket_with_a_tenth_of_a_second() -> None:
    limiter, settings = Limiter(), Settings(rate_per_s=100)
    assert [limiter.refuses(settings, 5.0) for _ in range(12)].count(False) == 10
    assert not limiter.refuses(settings, 5.011)
    assert limiter.refuses(settings, 5.012)
    assert not any(limiter.refuses(Settings(), 5.0) for _ in range(100))


# ---- faults ----


def test_a_rule_chooses_by_share_poison_number_and_time() -> None:
    def chosen(rule: FaultRule, payment_id: str = "a", now_s: float = 5, draw: float = 0.5) -> bool:
        return choose([rule], payment_id, now_s, lambda: draw) is not None

    reset = Fault.RESET_BEFORE
    assert chosen(FaultRule(reset))
    assert chosen(FaultRule(reset, share=0.6))
    assert not chosen(FaultRule(reset, share=0.5))
    assert chosen(FaultRule(reset, payment_ids=["a"]))
    assert not chosen(FaultRule(reset, payment_ids=["b"]))
    assert not chosen(FaultRule(reset, until_s=5))
    twice = FaultRule(reset, times=2)
    assert [chosen(twice) for _ in range(3)] == [True, True, False]


HAPPENS = {
    Fault.RESET_BEFORE: 0,
    Fault.HANG_BEFORE: 0,
    Fault.HTML_BEFORE: 0,
    Fault.UNAVAILABLE: 0,
    Fault.SAVED_500_BEFORE: 0,
    Fault.UNSAVED_500_BEFORE: 0,
    Fault.SAVED_500_AFTER: 1,
    Fault.SAVED_500_LATE: 1,
    Fault.RESET_AFTER: 1,
    Fault.HANG_AFTER: 1,
    Fault.HALF_A_BODY: 1,
    Fault.HTML_AFTER: 1,
}
"""The charges that have happened when a fault is over."""
HANGS = {Fault.HANG_BEFORE, Fault.HANG_AFTER}
ANSWERS: dict[Fault, int | type[Exception]] = {
    Fault.RESET_BEFORE: ConnectionResetError,
    Fault.HANG_BEFORE: TimeoutError,
    Fault.HTML_BEFORE: 502,
    Fault.UNAVAILABLE: 503,
    Fault.SAVED_500_BEFORE: 500,
    Fault.UNSAVED_500_BEFORE: 500,
    Fault.SAVED_500_AFTER: 500,
    Fault.SAVED_500_LATE: 500,
    Fault.RESET_AFTER: ConnectionResetError,
    Fault.HANG_AFTER: TimeoutError,
    Fault.HALF_A_BODY: http.client.IncompleteRead,
    Fault.HTML_AFTER: 502,
}


@pytest.mark.parametrize("fault", Fault)
def test_a_fault_comes_before_or_after_the_charge(provider: FakeProvider, fault: Fault) -> None:
    payment_id = new_id()
    provider.change(faults=[{"fault": fault, "payment_ids": [payment_id]}], finish_after_s=0)
    expected = ANSWERS[fault]
    if isinstance(expected, int):
        assert post(provider, payment_id).status == expected
    else:
        with pytest.raises(expected):
            post(provider, payment_id, timeout_s=1 if fault in HANGS else 60)
    assert post(provider, new_id()).status == 200, "others get through"
    # A client that gives up is not waited for.
    assert until(lambda: len(charged(provider, payment_id)), HAPPENS[fault])
    provider.change(faults=[])
    again = post(provider, payment_id)
    saved_500 = fault in {Fault.SAVED_500_BEFORE, Fault.SAVED_500_AFTER, Fault.SAVED_500_LATE}
    assert again.status == (500 if saved_500 else 200)
    assert len(charged(provider, payment_id)) == max(HAPPENS[fault], not saved_500)


def test_a_late_charge_cannot_be_seen_until_it_happens(provider: FakeProvider) -> None:
    late, soon = new_id(), new_id()
    provider.change(faults=[{"fault": "saved_500_late"}], finish_after_s=3600)
    assert post(provider, late).status == 500
    assert ask(provider, "GET", f"/v1/payments/{late}").status == 404
    provider.change(finish_after_s=0.1)
    assert post(provider, soon).status == 500
    assert until(lambda: ask(provider, "GET", f"/v1/payments/{soon}").status, 200)
    assert ask(provider, "GET", f"/v1/payments/{late}").status == 404


def test_an_outage_refuses_connections_and_ends_by_itself(provider: FakeProvider) -> None:
    with socket.create_connection(("127.0.0.1", provider.port)) as idle:
        idle.sendall(b"GET /v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.recv(100)
        provider.outage(3.0)
        idle.settimeout(60)
        assert gone(idle), "open connections end, too"
    with pytest.raises(ConnectionRefusedError):
        ask(provider, "GET", "/v1/health")
    assert until(lambda: status_of_health(provider), 204)


def test_an_outage_can_be_ended(provider: FakeProvider) -> None:
    provider.outage(3600)
    provider.heal()
    assert status_of_health(provider) == 204


def test_an_outage_of_another_kind(provider: FakeProvider) -> None:
    provider.outage(3600, "unavailable")
    assert post(provider, new_id()).status == 503
    provider.heal()
    assert post(provider, new_id()).status == 200
    provider.outage(0.05, "unavailable")
    assert until(lambda: post(provider, new_id()).status, 200)


# ---- lookup ----


def test_a_list_is_up_to_date_and_a_search_lags(provider: FakeProvider) -> None:
    provider.change(search_lag_s=3600)
    customer = new_id()
    ids = [new_id() for _ in range(3)]
    for payment_id in ids:
        post_stripe(provider, payment_id, customer=customer)
    query = urlencode({"customer": customer, "limit": 2})
    page = ask(provider, "GET", f"/v1/payment_intents?{query}").body
    rest = ask(
        provider, "GET", f"/v1/payment_intents?{query}&starting_after={page['data'][-1]['id']}"
    ).body
    assert (page["has_more"], rest["has_more"]) == (True, False)
    listed = [each["metadata"]["paymentId"] for each in page["data"] + rest["data"]]
    assert listed == ids[::-1]
    search = "/v1/payment_intents/search?" + urlencode(
        {"query": f"metadata['paymentId']:'{ids[0]}'"}
    )
    assert ask(provider, "GET", search).body["data"] == []
    provider.change(search_lag_s=0)
    assert len(ask(provider, "GET", search).body["data"]) == 1


def test_a_wrong_setting_is_refused(provider: FakeProvider) -> None:
    with pytest.raises(ValueError, match="latency"):
        provider.change(latency="1s")
    with pytest.raises(ValueError, match="Invalid enum"):
        provider.change(faults=[{"fault": "flood"}])


def until(found: Callable[[], object], expected: object) -> bool:
    """Wait until it is as expected."""
    ends = time.monotonic() + 120
    while found() != expected:
        assert time.monotonic() < ends
        time.sleep(0.02)
    return True


def status_of_health(provider: FakeProvider) -> int:
    try:
        return ask(provider, "GET", "/v1/health").status
    except OSError:
        return 0


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def gone(connection: socket.socket) -> bool:
    """Return whether a connection is closed, once what was on its way has arrived."""
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        return True
    return True

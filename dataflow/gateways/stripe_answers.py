"""Stripe's answers as replies of the port: pure, and the only place that reads them.

Status 200 is not a success, and 4xx is not a decline: see the tables. What no row has is `Unknown`.
"""

from msgspec import Struct

from dataflow.gateways.http_client import Response, is_too_many, read, retry_after_s
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
from schemas.outcomes import ErrorCode

_DECLINES: dict[str, tuple[ErrorCode, bool]] = {
    "insufficient_funds": (ErrorCode.INSUFFICIENT_FUNDS, True),
    "expired_card": (ErrorCode.CARD_EXPIRED, False),
    **dict.fromkeys(
        (
            "fraudulent",
            "merchant_blacklist",
            "stolen_card",
            "lost_card",
            "pickup_card",
            "restricted_card",
            "security_violation",
        ),
        (ErrorCode.FRAUD_SUSPECTED, False),
    ),
    **dict.fromkeys(
        ("card_velocity_exceeded", "withdrawal_count_limit_exceeded"),
        (ErrorCode.LIMIT_EXCEEDED, True),
    ),
    **dict.fromkeys(("amount_too_large", "invalid_amount"), (ErrorCode.LIMIT_EXCEEDED, False)),
    **dict.fromkeys(
        (
            "card_not_supported",
            "currency_not_supported",
            "service_not_allowed",
            "transaction_not_allowed",
            "not_permitted",
        ),
        (ErrorCode.METHOD_NOT_SUPPORTED, False),
    ),
    **dict.fromkeys(
        (
            "authentication_required",
            "authentication_not_handled",
            "mobile_device_authentication_required",
        ),
        (ErrorCode.AUTHENTICATION_REQUIRED, True),
    ),
    **dict.fromkeys(
        (
            "incorrect_number",
            "invalid_number",
            "incorrect_cvc",
            "invalid_cvc",
            "incorrect_zip",
            "incorrect_address",
            "invalid_account",
            "invalid_expiry_month",
            "invalid_expiry_year",
        ),
        (ErrorCode.INVALID_PAYMENT_METHOD, False),
    ),
    **dict.fromkeys(
        ("processing_error", "issuer_not_available", "try_again_later", "reenter_transaction"),
        (ErrorCode.DECLINED, True),
    ),
}
"""Our code, and whether another try may succeed. All others: `declined`, and no."""
_REFUSED_CURRENCY = {"invalid_currency", "currency_not_supported", "invalid_currency_for_payment"}
_OF_THE_PAYMENT = {"customer", "payment_method"}
_OF_THE_ACCOUNT = {"payment_method_unactivated", "payment_method_configuration_failures"}
"""Refusals of everybody's cards, until a person changes the account."""
ABANDONED = "abandoned"
"""The reason that we give when we cancel a payment whose payer would have to confirm it."""
NOT_CONFIRMED = Declined(
    ErrorCode.AUTHENTICATION_REQUIRED,
    "The payer has to confirm this payment.",
    retryable=True,
    provider_code="requires_action",
)
_CANCELED = Declined(
    ErrorCode.DECLINED,
    "The payment was canceled at the provider.",
    retryable=False,
    provider_code="canceled",
)


class Problem(Struct):
    """Stripe's `error`."""

    type: str = ""
    code: str | None = None
    decline_code: str | None = None
    advice_code: str | None = None
    message: str | None = None
    param: str | None = None
    payment_intent: "Intent | None" = None


class Intent(Struct):
    """A PaymentIntent, as far as it matters here."""

    id: str
    status: str
    amount: int | None = None
    currency: str | None = None
    metadata: dict[str, str] = {}
    last_payment_error: Problem | None = None
    cancellation_reason: str | None = None
    created: int | None = None
    """In seconds since 1970."""


class IntentList(Struct):
    """A page of PaymentIntents, the newest first."""

    data: list[Intent]
    has_more: bool


class _Failure(Struct):
    error: Problem


class ToCancel(Struct, frozen=True):
    """The payer of this PaymentIntent would have to confirm it, and is not there."""

    id: str


def of_charge(response: Response) -> Reply | ToCancel:
    """Return what the answer to a charge, or its replay, states."""
    if response.status == 200:  # noqa: PLR2004
        intent = read(response, Intent)
        if intent is None:
            return Unknown("HTTP 200, but no PaymentIntent")
        return of_intent(intent)
    failure = read(response, _Failure)
    return _of_failure(response, failure.error if failure else Problem())


def of_intent(intent: Intent) -> Reply | ToCancel:
    """Return what the status of a PaymentIntent states."""
    match intent.status:
        case "succeeded":
            return Approved(intent.id)
        case "processing":
            return Pending(intent.id)
        case "requires_action":
            return ToCancel(intent.id)
        case "canceled":
            return NOT_CONFIRMED if intent.cancellation_reason == ABANDONED else _CANCELED
        case "requires_payment_method" if intent.last_payment_error is not None:
            return decline(intent.last_payment_error)
    return Unknown(f"PaymentIntent {intent.id} has the status {intent.status}", saved=True)


def intent_of(response: Response) -> Intent | None:
    """Return the PaymentIntent that an answer is about, if it has one."""
    if response.status == 200:  # noqa: PLR2004
        return read(response, Intent)
    failure = read(response, _Failure)
    return failure.error.payment_intent if failure else None


def of_cancel(response: Response, intent_id: str) -> Reply:
    """Return what the answer to a cancellation states: the payer may have been quicker."""
    intent = intent_of(response)
    reply = of_intent(intent) if intent is not None and intent.id == intent_id else None
    if reply is None or isinstance(reply, ToCancel):
        reason = f"HTTP {response.status} to the cancellation of a payment"
        return Unknown(reason, too_many=is_too_many(response))
    return reply


def of_probe(response: Response) -> Reply | None:
    """Return why charges would fail; None if they would not."""
    if response.status == 200:  # noqa: PLR2004
        return None
    failure = read(response, _Failure)
    return _of_failure(response, failure.error if failure else Problem())


def decline(problem: Problem) -> Declined:
    """Return the decline that a `card_error` is."""
    theirs = problem.decline_code or problem.code
    known = _DECLINES.get(theirs or "") or _DECLINES.get(problem.code or "")
    code, retryable = known or (ErrorCode.DECLINED, False)
    match problem.advice_code:
        case "confirm_card_data":
            code, retryable = ErrorCode.INVALID_PAYMENT_METHOD, False
        case "try_again_later":
            retryable = True
        case "do_not_try_again":
            retryable = False
    return Declined(code, problem.message or "", retryable, theirs)


def _of_failure(response: Response, problem: Problem) -> Reply:
    status = response.status
    reason = f"HTTP {status} {problem.type} {problem.code or ''}".rstrip()
    match status:
        case 402 if problem.type == "card_error":
            return decline(problem)
        case 400 if problem.type == "idempotency_error":
            return Unknown(f"{reason}: the key was used with other content", saved=True)
        case 400 | 404:
            return _of_refusal(problem, reason)
        case 401 | 403:
            return Misconfigured(reason)
        case 429:
            return NotExecuted(reason, retry_after_s(response), too_many=True)
    # 409, 424, 5xx, and whatever else there is.
    should_retry = response.headers.get("Stripe-Should-Retry")
    saved = should_retry == "false" or (status == 500 and should_retry != "true")  # noqa: PLR2004
    return Unknown(reason, saved=saved)


def _of_refusal(problem: Problem, reason: str) -> Reply:
    """Return what a request that was refused for its content states: of this payment, or of all."""
    code, param = problem.code or "", problem.param or ""
    if code in _OF_THE_ACCOUNT:
        return Misconfigured(f"{reason}: {problem.message or 'see the dashboard'}")
    if code.startswith("amount_") or param == "amount":
        return _refused(ErrorCode.LIMIT_EXCEEDED, problem)
    if param == "currency" or code in _REFUSED_CURRENCY:
        return _refused(ErrorCode.METHOD_NOT_SUPPORTED, problem)
    # A card that its payer has removed: only the message states it.
    of_the_card = not code + param and "PaymentMethod" in (problem.message or "")
    if of_the_card or param in _OF_THE_PAYMENT or code.startswith("payment_method_"):
        return _refused(ErrorCode.INVALID_PAYMENT_METHOD, problem)
    if param.startswith("metadata"):
        return _refused(ErrorCode.DECLINED, problem)
    return Misconfigured(f"{reason}: {problem.message or 'no such address'}")


def _refused(code: ErrorCode, problem: Problem) -> Declined:
    return Declined(
        code,
        problem.message or "",
        retryable=False,
        provider_code=problem.code,
        basis=DeclineBasis.REFUSAL,
    )

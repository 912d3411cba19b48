"""The provider's decisions about a payment, and the faults before and after it; all is pure.

What decides about a payment is its payment method, or whatever follows the last `:` in its
paymentId; the first of them that is in this table counts:

    decline_<code>          declined with that code: decline_insufficient_funds (or decline:…)
    advised_<code>_<advice> the same, with an advice code after a `-`: advised_declined-try_again
    processing              accepted; succeeds after `finish_after_s`
    processing_decline      accepted; is declined after `finish_after_s`
    requires_action         waits for the payer, who never comes (3-D Secure)
    acts_late               the same, but the payer has confirmed before it can be cancelled
    missing                 there is no such payment method
    anything else           succeeds

Stripe's own test tokens work, too: see `_TOKENS`.
"""

import re
from collections.abc import Callable
from enum import StrEnum

from msgspec import Struct

from dataflow.fake_provider.book import (
    DECLINED,
    PROCESSING,
    REQUIRES_ACTION,
    SUCCEEDED,
)

MISSING = "missing"
"""The status of a payment whose method does not exist: it is refused, and in no book."""

_TOKENS = {
    "pm_card_visa_chargeDeclined": "decline_generic_decline",
    "pm_card_visa_chargeDeclinedInsufficientFunds": "decline_insufficient_funds",
    "pm_card_visa_chargeDeclinedLostCard": "decline_lost_card",
    "pm_card_visa_chargeDeclinedStolenCard": "decline_stolen_card",
    "pm_card_chargeDeclinedExpiredCard": "decline_expired_card",
    "pm_card_chargeDeclinedIncorrectCvc": "decline_incorrect_cvc",
    "pm_card_chargeDeclinedProcessingError": "decline_processing_error",
    "pm_card_visa_chargeDeclinedVelocityLimitExceeded": "decline_card_velocity_exceeded",
    "pm_card_chargeCustomerFail": "decline_generic_decline",
    "pm_card_authenticationRequired": "decline_authentication_required",
}
_WORD = re.compile(
    r"(?:^|_|:)(?P<word>decline[_:](?P<code>[a-z_]+)|advised_(?P<advised>[a-z_]+)-(?P<advice>[a-z_]+)"
    r"|processing_decline|processing|requires_action|acts_late|missing)$"
)


class Decision(Struct, frozen=True):
    """The fate of a payment."""

    status: str
    code: str | None = None
    advice: str | None = None
    finishes_as: str | None = None


def decide(method: str, payment_id: str) -> Decision:
    """Return what becomes of a payment."""
    for text in (_TOKENS.get(method, method), payment_id):
        match = _WORD.search(text)
        if match:
            return _decision(match)
    return Decision(SUCCEEDED)


def _decision(match: re.Match[str]) -> Decision:
    if match["code"]:
        return Decision(DECLINED, match["code"])
    if match["advised"]:
        return Decision(DECLINED, match["advised"], match["advice"])
    return {
        "processing": Decision(PROCESSING, finishes_as=SUCCEEDED),
        "processing_decline": Decision(PROCESSING, "generic_decline", finishes_as=DECLINED),
        "requires_action": Decision(REQUIRES_ACTION),
        "acts_late": Decision(REQUIRES_ACTION, finishes_as=SUCCEEDED),
        "missing": Decision(MISSING),
    }[match["word"]]


class Fault(StrEnum):
    """The ways in which a charge can fail, by what the provider does."""

    # before the charge, which does not happen
    RESET_BEFORE = "reset_before"
    HANG_BEFORE = "hang_before"
    HTML_BEFORE = "html_before"
    """A proxy answers 502, in HTML."""
    UNAVAILABLE = "unavailable"
    """503, by contract."""
    SAVED_500_BEFORE = "saved_500_before"
    """500, which the key gets again for as long as it lives."""
    UNSAVED_500_BEFORE = "unsaved_500_before"
    # after the charge
    SAVED_500_AFTER = "saved_500_after"
    SAVED_500_LATE = "saved_500_late"
    """500, and the charge happens `finish_after_s` later."""
    RESET_AFTER = "reset_after"
    HANG_AFTER = "hang_after"
    HALF_A_BODY = "half_a_body"
    HTML_AFTER = "html_after"


class FaultRule(Struct, forbid_unknown_fields=True):
    """A fault, and the charges that it happens to."""

    fault: Fault
    share: float = 1.0
    payment_ids: list[str] | None = None
    """Poison: only these, and always."""
    times: int | None = None
    """So many charges, and no more."""
    until_s: float | None = None
    """Unix time."""


class Settings(Struct, forbid_unknown_fields=True):
    """All that can be changed while the provider runs."""

    secret: str = "sk_test_fake"  # noqa: S105  (the key of a provider that does not exist)
    latency_s: float = 0.0
    key_life_s: float = 24 * 3600.0
    finish_after_s: float = 1.0
    search_lag_s: float = 2.0
    """A payment can be searched for so long after it was made; it is on lists at once."""
    hang_s: float = 3600.0
    rate_per_s: float | None = None
    max_in_flight: int | None = None
    retry_after_s: int | None = None
    """Sent with 429 and 503."""
    saves_errors: bool = True
    """False: a contract of which only final answers are kept."""
    ignores_keys: bool = False
    """A bad provider: each request is a new charge."""
    ignores_content: bool = False
    """A bad provider: another content under the same key gets the first answer."""
    waits_in_flight: bool = True
    """False, a bad provider: a key in flight is executed a second time."""
    is_another_account: bool = False
    """The secret is that of an account which has none of our customers; with Stripe's shape."""
    has_lookup: bool = True
    page_size: int = 100
    """The payments on one page of the contract's list."""
    faults: list[FaultRule] = []


def choose(
    rules: list[FaultRule], payment_id: str, now_s: float, draw: Callable[[], float]
) -> Fault | None:
    """Return the fault of a charge; a rule that has a number of times is counted down."""
    for rule in rules:
        if rule.until_s is not None and now_s >= rule.until_s:
            continue
        if rule.times == 0 or (rule.payment_ids is not None and payment_id not in rule.payment_ids):
            continue
        if draw() >= rule.share:
            continue
        if rule.times is not None:
            rule.times -= 1
        return rule.fault
    return None


class Limiter:
    """A limit of requests a second, and one of requests in flight: before the key is looked at."""

    def __init__(self) -> None:
        self.in_flight = 0
        self._tokens = 0.0
        self._at_s: float | None = None

    def refuses(self, settings: Settings, now_s: float) -> bool:
        """Return whether a request is one too many."""
        if settings.max_in_flight is not None and self.in_flight >= settings.max_in_flight:
            return True
        rate = settings.rate_per_s
        if rate is None:
            return False
        # A tenth of a second may come at once.
        burst = max(1.0, rate / 10)
        since_s = burst if self._at_s is None else now_s - self._at_s
        self._tokens = min(burst, self._tokens + since_s * rate)
        self._at_s = now_s
        if self._tokens < 1:
            return True
        self._tokens -= 1
        return False

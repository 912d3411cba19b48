"""A gateway without a provider behind it: for the demo, load tests and everybody's tests.

What it replies depends on nothing but the paymentId and the decline rate, so it is idempotent by
nature, across crashes too. A paymentId can ask for a reply, by containing

    decline:insufficient_funds      declined with that code
    decline:card_expired            the same
    decline:fraud_suspected         the same
    decline:limit_exceeded          the same
    decline:method_not_supported    the same
    decline:authentication_required the same
    decline:invalid_payment_method  the same
    decline:declined                declined without a reason; so is any reason not listed here
    unavailable:2                   no answer the first 2 times it is asked, then as otherwise

as in `pay_7:unavailable:2:decline:card_expired`. All others are approved, except for a share of
them (the decline rate) that is declined, each code equally often.
"""

import asyncio
import re
from collections.abc import Sequence

from dataflow.config.settings import GatewaySettings
from dataflow.gateways.port import Approved, Declined, Reply, Traits, Unknown
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest, key_of

# One instance for each code is enough: replies are immutable. The provider's codes are those of
# ISO 8583, the language of card networks.
_DECLINES = {
    code.value: Declined(code, message, retryable=retryable, provider_code=theirs)
    for code, message, retryable, theirs in (
        (ErrorCode.DECLINED, "The payment was declined.", False, "05"),
        (ErrorCode.INSUFFICIENT_FUNDS, "The balance is too low.", True, "51"),
        (ErrorCode.CARD_EXPIRED, "The card has expired.", False, "54"),
        (ErrorCode.FRAUD_SUSPECTED, "Fraud is suspected.", False, "59"),
        (ErrorCode.LIMIT_EXCEEDED, "A limit is exceeded.", True, "61"),
        (ErrorCode.METHOD_NOT_SUPPORTED, "The method is unknown.", False, "57"),
        (ErrorCode.AUTHENTICATION_REQUIRED, "The payer has to confirm.", True, "1A"),
        (ErrorCode.INVALID_PAYMENT_METHOD, "The number is wrong.", False, "14"),
    )
}
_SPREAD = tuple(_DECLINES.values())
_DECLINE = re.compile("decline:([a-z_]+)")
_UNAVAILABLE = re.compile("unavailable:([0-9]{1,9})")
_NEVER, _ALWAYS = "", "g"
"""Below, and above, every hexadecimal text."""


class SimulatedGateway:
    """The simulated provider.

    Attributes:
        decline_rate: Share of payments to decline, 0 to 1.
        latency_s: How long each charge takes.
    """

    # Nothing is kept, and nothing needs to be: the same payment always has the same reply.
    traits = Traits(key_life_s=None, saves_errors=False, has_lookup=True)

    def __init__(self, decline_rate: float = 0.02, latency_s: float = 0.0) -> None:
        self.decline_rate = decline_rate
        self.latency_s = latency_s
        self._refusals: dict[str, int] = {}
        """The number of times each `unavailable:N` was refused so far; forgotten once it is
        answered."""
        # Hashes are compared as the hexadecimal texts they are: equal width, so the same order.
        share = int(decline_rate * 2**64)
        self._declined_below = _ALWAYS if share >= 2**64 else f"{share:016x}" if share else _NEVER

    async def charge(self, request: PaymentRequest, _key: str) -> Reply:
        """Reply after the latency."""
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        return self._replies((request,))[0]

    async def lookup(self, request: PaymentRequest, key: str) -> Reply:
        """Reply as to a charge: nothing is ever charged, so there is no difference."""
        return await self.charge(request, key)

    async def probe(self) -> None:
        """Do nothing: it always works."""

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    def _replies(self, requests: Sequence[PaymentRequest]) -> list[Reply]:
        replies: list[Reply] = []
        for request in requests:
            payment_id = request.payment_id
            if ":" in payment_id and (asked := self._asked_for(payment_id)):
                replies.append(asked)
                continue
            digest = key_of(payment_id).hex()
            if digest < self._declined_below:
                replies.append(_SPREAD[int(digest[16:], 16) % len(_SPREAD)])
            else:
                replies.append(Approved("sim_" + digest[16:]))
        return replies

    def _asked_for(self, payment_id: str) -> Reply | None:
        """Return the reply that the paymentId asks for, if it does."""
        if times := _UNAVAILABLE.search(payment_id):
            refused = self._refusals.pop(payment_id, 0)
            if refused < int(times[1]):
                self._refusals[payment_id] = refused + 1
                return Unknown(f"simulated, {refused + 1} of {int(times[1])}")
        if reason := _DECLINE.search(payment_id):
            return _DECLINES.get(reason[1], _SPREAD[0])
        return None


class ImmediateGateway(SimulatedGateway):
    """The simulated provider without a latency: it answers a whole batch without waiting."""

    def __init__(self, decline_rate: float = 0.02) -> None:
        super().__init__(decline_rate)

    async def charge_batch(self, requests: Sequence[PaymentRequest]) -> list[Reply]:
        """Reply to each request, at once."""
        return self._replies(requests)


def build(settings: GatewaySettings) -> SimulatedGateway:
    """Build it; with a latency, it has no batches."""
    if settings.simulated_latency_s:
        return SimulatedGateway(settings.simulated_decline_rate, settings.simulated_latency_s)
    return ImmediateGateway(settings.simulated_decline_rate)

"""A gateway without a provider behind it: for the demo, load tests and everybody's tests.

What it replies depends on nothing but the paymentId and the decline rate, so it is idempotent by
nature, across crashes too. A paymentId can ask for a reply, by containing

    decline:insufficient_funds      declined with that code
    decline:card_expired            the same
    decline:fraud_suspected         the same
    decline:limit_exceeded          the same
    decline:method_not_supported    the same
    decline:declined                declined without a reason; so is any reason not listed here
    unavailable:2                   no answer the first 2 times it is asked, then as otherwise

as in `pay_7:unavailable:2:decline:card_expired`. All others are approved, except for a share of
them (the decline rate) that is declined, each code equally often.
"""

import asyncio
import re
from collections.abc import Sequence

from dataflow.gateways.port import Approved, Declined, Reply, Unavailable
from schemas.outcomes import ErrorCode
from schemas.requests import PaymentRequest, key_of

# One instance for each code is enough: replies are immutable.
_DECLINES = {
    declined.code.value: declined
    for declined in (
        Declined(ErrorCode.DECLINED, "The payment was declined.", retryable=False),
        Declined(ErrorCode.INSUFFICIENT_FUNDS, "The balance is too low.", retryable=True),
        Declined(ErrorCode.CARD_EXPIRED, "The card has expired.", retryable=False),
        Declined(ErrorCode.FRAUD_SUSPECTED, "Fraud is suspected.", retryable=False),
        Declined(ErrorCode.LIMIT_EXCEEDED, "A limit is exceeded.", retryable=True),
        Declined(ErrorCode.METHOD_NOT_SUPPORTED, "The method is unknown.", retryable=False),
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
        concurrency: Charges in flight at once; only matters with a latency.
    """

    def __init__(
        self, decline_rate: float = 0.02, latency_s: float = 0.0, concurrency: int = 256
    ) -> None:
        self.decline_rate = decline_rate
        self.latency_s = latency_s
        self.concurrency = concurrency
        self._slots = asyncio.Semaphore(concurrency)
        self._refusals: dict[str, int] = {}
        """The number of times each `unavailable:N` was refused so far; forgotten once it is
        answered."""
        # Hashes are compared as the hexadecimal texts they are: equal width, so the same order.
        share = int(decline_rate * 2**64)
        self._declined_below = _ALWAYS if share >= 2**64 else f"{share:016x}" if share else _NEVER

    async def charge(self, requests: Sequence[PaymentRequest]) -> list[Reply]:
        """Reply to each request, at once or after the latency."""
        if self.latency_s:
            return list(await asyncio.gather(*map(self._charge_slowly, requests)))
        return self._replies(requests)

    async def close(self) -> None:
        """Do nothing: there is nothing to give back."""

    async def _charge_slowly(self, request: PaymentRequest) -> Reply:
        async with self._slots:
            await asyncio.sleep(self.latency_s)
        return self._replies((request,))[0]

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
                return Unavailable(f"simulated, {refused + 1} of {int(times[1])}")
        if reason := _DECLINE.search(payment_id):
            return _DECLINES.get(reason[1], _SPREAD[0])
        return None

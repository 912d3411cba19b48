"""The duties of every gateway, written once and run against each of them.

A new provider is tested by a subclass that defines how to build its gateway, and how to make some
of its charges fail:

    class TestStripe(GatewayContract):
        def build(self) -> Gateway: ...
        def flaky_requests(self) -> list[PaymentRequest]: ...
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sample_requests import make_requests

from dataflow.gateways.port import Approved, Declined, Gateway, Unavailable
from dataflow.gateways.retry import Definite, charge_until_final
from schemas.requests import PaymentRequest

T = TypeVar("T")


async def without_pauses(_pause_s: float) -> None:
    await asyncio.sleep(0)


async def definite(gateway: Gateway, requests: Sequence[PaymentRequest]) -> list[Definite]:
    """Charge as in production, but do not wait between two attempts."""
    return await charge_until_final(gateway, requests, deadline_s=200, sleep=without_pauses)


class GatewayContract:
    """The contract. The provider behind the gateway outlives it, as it does in production."""

    def build(self) -> Gateway:
        """Return a new gateway, to the same provider for all of one test."""
        raise NotImplementedError

    def flaky_requests(self) -> list[PaymentRequest]:
        """Return requests of which some, but not all, are unavailable when first asked."""
        raise NotImplementedError

    def play(self, scene: Callable[[Gateway], Awaitable[T]]) -> T:
        """Run a scene in the life of one gateway: built, used and closed on one event loop."""

        async def life() -> T:
            gateway = self.build()
            try:
                return await scene(gateway)
            finally:
                await gateway.close()

        return asyncio.run(life())

    def test_an_empty_batch_has_no_replies(self) -> None:
        assert list(self.play(lambda gateway: gateway.charge([]))) == []

    def test_each_request_has_a_reply_that_the_port_knows(self) -> None:
        requests = make_requests(50)
        replies = self.play(lambda gateway: gateway.charge(requests))
        assert len(replies) == 50
        assert {type(reply) for reply in replies} <= {Approved, Declined, Unavailable}

    def test_what_is_published_fits_the_events(self) -> None:
        for reply in self.play(lambda gateway: definite(gateway, make_requests(200))):
            if isinstance(reply, Approved):
                assert 1 <= len(reply.reference) <= 255
            else:
                assert 1 <= len(reply.message) <= 500

    def test_replies_are_in_the_order_of_the_requests(self) -> None:
        requests = make_requests(30)

        async def together_then_alone(gateway: Gateway) -> tuple[list[Definite], list[Definite]]:
            together = await definite(gateway, requests)
            alone = await asyncio.gather(*(definite(gateway, [each]) for each in requests))
            return together, [reply for (reply,) in alone]

        together, alone = self.play(together_then_alone)
        assert together == alone
        assert len({reply.reference for reply in together if isinstance(reply, Approved)}) > 20

    def test_the_same_payment_has_the_same_reply_after_a_restart(self) -> None:
        requests = make_requests(50)
        before = self.play(lambda gateway: definite(gateway, requests))
        after = self.play(lambda gateway: definite(gateway, requests[::-1]))
        assert after == before[::-1]

    def test_the_unavailable_ones_do_not_take_the_others_with_them(self) -> None:
        requests = self.flaky_requests()

        async def first_and_final(gateway: Gateway) -> tuple[list[object], list[Definite]]:
            first = await gateway.charge(requests)
            return list(first), await definite(gateway, requests)

        first, final = self.play(first_and_final)
        unavailable = [isinstance(reply, Unavailable) for reply in first]
        assert any(unavailable)
        assert not all(unavailable)
        for before, after in zip(first, final, strict=True):
            assert isinstance(before, Unavailable) or before == after

    def test_a_large_batch(self) -> None:
        replies = self.play(lambda gateway: definite(gateway, make_requests(10_000)))
        references = {reply.reference for reply in replies if isinstance(reply, Approved)}
        declined = sum(isinstance(reply, Declined) for reply in replies)
        assert len(references) + declined == 10_000

    def test_several_batches_at_once(self) -> None:
        batches = [make_requests(40)[start : start + 20] for start in (0, 5, 10, 15, 20)]

        async def at_once(gateway: Gateway) -> list[list[Definite]]:
            return await asyncio.gather(*(definite(gateway, batch) for batch in batches))

        replies: dict[str, Definite] = {}
        for batch, answers in zip(batches, self.play(at_once), strict=True):
            for request, answer in zip(batch, answers, strict=True):
                assert replies.setdefault(request.payment_id, answer) == answer

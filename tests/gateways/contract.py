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

from dataflow.gateways.port import (
    KEY_LENGTH,
    Approved,
    BatchGateway,
    Declined,
    Definite,
    Gateway,
    Misconfigured,
    NotExecuted,
    Pending,
    Reply,
    Traits,
    Unknown,
    idempotency_key,
)
from schemas.requests import PaymentRequest
from tests.gateways.sample_requests import make_requests

G = TypeVar("G", bound=Gateway)
T = TypeVar("T")


async def charge(gateway: Gateway, requests: Sequence[PaymentRequest]) -> list[Reply]:
    """Charge each request once, all at the same time, under the keys of production."""
    keys = [idempotency_key(request.payment_id) for request in requests]
    return await asyncio.gather(*map(gateway.charge, requests, keys))


async def definite(gateway: Gateway, requests: Sequence[PaymentRequest]) -> list[Definite]:
    """Charge each until it has a definite answer; as in production, but without pauses."""
    return await asyncio.gather(*(_until_definite(gateway, request) for request in requests))


async def _until_definite(gateway: Gateway, request: PaymentRequest) -> Definite:
    key = idempotency_key(request.payment_id)
    reply: Reply | None = await gateway.charge(request, key)
    while not isinstance(reply, Approved | Declined):
        assert not isinstance(reply, Misconfigured), reply
        decided_later = isinstance(reply, Pending) or (isinstance(reply, Unknown) and reply.saved)
        ask = gateway.lookup if decided_later and gateway.traits.has_lookup else gateway.charge
        reply = await ask(request, key)
    return reply


async def found_until_definite(gateway: Gateway, request: PaymentRequest) -> Reply | None:
    """Look a payment up, again if the network loses the answer."""
    while True:
        found = await gateway.lookup(request, idempotency_key(request.payment_id))
        assert not isinstance(found, NotExecuted | Misconfigured)
        if found is None or isinstance(found, Definite):
            return found


def live(build: Callable[[], G], scene: Callable[[G], Awaitable[T]]) -> T:
    """Run a scene in the life of one gateway: built, used and closed on one event loop."""

    async def life() -> T:
        gateway = build()
        try:
            return await scene(gateway)
        finally:
            await gateway.close()

    return asyncio.run(life())


def play(gateway: Gateway, scene: Callable[[], Awaitable[T]]) -> T:
    """Run a scene that has its gateway already, and close that."""
    return live(lambda: gateway, lambda _: scene())


class GatewayContract:
    """The contract. The provider behind the gateway outlives it, as it does in production."""

    def build(self) -> Gateway:
        """Return a new gateway, to the same provider for all of one test."""
        raise NotImplementedError

    LARGE = 10_000
    """Payments of a large batch."""

    def requests(self, number: int) -> list[PaymentRequest]:
        """Return so many payments that the provider takes."""
        return make_requests(number)

    def flaky_requests(self) -> list[PaymentRequest]:
        """Return requests of which some, but not all, are undecided when first asked."""
        raise NotImplementedError

    def play(self, scene: Callable[[Gateway], Awaitable[T]]) -> T:
        """Run a scene in the life of one gateway."""
        return live(self.build, scene)

    def test_it_fits_the_port(self) -> None:
        gateway = self.build()
        assert isinstance(gateway, Gateway)
        assert isinstance(gateway.traits, Traits)
        assert gateway.traits.longest_key >= KEY_LENGTH
        assert gateway.traits.key_life_s is None or gateway.traits.key_life_s >= 3600

    def test_building_and_closing_it_needs_no_provider_and_no_loop(self) -> None:
        gateway = self.build()
        asyncio.run(gateway.close())

    def test_an_empty_batch_has_no_replies(self) -> None:
        assert self.play(lambda gateway: definite(gateway, [])) == []

    def test_each_request_has_a_reply_that_the_port_has(self) -> None:
        replies = self.play(lambda gateway: charge(gateway, self.requests(50)))
        assert {type(reply) for reply in replies} <= {
            Approved,
            Declined,
            NotExecuted,
            Unknown,
            Pending,
        }

    def test_the_probe_of_a_provider_that_works_finds_nothing(self) -> None:
        assert self.play(lambda gateway: gateway.probe()) is None

    def test_a_batch_has_the_replies_of_single_charges(self) -> None:
        requests = self.requests(50)

        async def both(gateway: Gateway) -> tuple[list[Reply], list[Reply]]:
            if not isinstance(gateway, BatchGateway):
                return [], []
            return list(await gateway.charge_batch(requests)), await charge(gateway, requests)

        together, alone = self.play(both)
        assert together == alone

    def test_the_lookup_has_the_reply_of_the_charge(self) -> None:
        requests = self.requests(20)

        async def charge_and_look_up(gateway: Gateway) -> list[tuple[Reply, Reply | None]]:
            if not gateway.traits.has_lookup:
                return []
            charged = await definite(gateway, requests)
            return [
                (was, await found_until_definite(gateway, request))
                for was, request in zip(charged, requests, strict=True)
            ]

        for was, found in self.play(charge_and_look_up):
            assert found == was

    def test_published_schemas_fit_the_events(self) -> None:
        for reply in self.play(lambda gateway: definite(gateway, self.requests(200))):
            if isinstance(reply, Approved):
                assert 1 <= len(reply.reference) <= 255
            else:
                assert 1 <= len(reply.message) <= 500

    def test_replies_are_in_the_order_of_the_requests(self) -> None:
        requests = self.requests(30)

        async def together_then_alone(gateway: Gateway) -> tuple[list[Definite], list[Definite]]:
            together = await definite(gateway, requests)
            alone = await asyncio.gather(*(definite(gateway, [each]) for each in requests))
            return together, [reply for (reply,) in alone]

        together, alone = self.play(together_then_alone)
        assert together == alone
        assert len({reply.reference for reply in together if isinstance(reply, Approved)}) > 20

    def test_the_same_payment_has_the_same_reply_after_a_restart(self) -> None:
        requests = self.requests(50)
        before = self.play(lambda gateway: definite(gateway, requests))
        after = self.play(lambda gateway: definite(gateway, requests[::-1]))
        assert after == before[::-1]

    def test_the_undecided_ones_do_not_take_the_others_with_them(self) -> None:
        requests = self.flaky_requests()

        async def first_and_final(gateway: Gateway) -> tuple[list[object], list[Definite]]:
            first = await charge(gateway, requests)
            return [*first], await definite(gateway, requests)

        first, final = self.play(first_and_final)
        decided = [isinstance(reply, Definite) for reply in first]
        assert any(decided)
        assert not all(decided)
        for before, after in zip(first, final, strict=True):
            assert before == after or not isinstance(before, Definite)

    def test_a_large_batch(self) -> None:
        replies = self.play(lambda gateway: definite(gateway, self.requests(self.LARGE)))
        references = {reply.reference for reply in replies if isinstance(reply, Approved)}
        declined = sum(isinstance(reply, Declined) for reply in replies)
        assert len(references) + declined == self.LARGE

    def test_several_batches_at_once(self) -> None:
        batches = [self.requests(40)[start : start + 20] for start in (0, 5, 10, 15, 20)]

        async def at_once(gateway: Gateway) -> list[list[Definite]]:
            return await asyncio.gather(*(definite(gateway, batch) for batch in batches))

        replies: dict[str, Definite] = {}
        for batch, answers in zip(batches, self.play(at_once), strict=True):
            for request, answer in zip(batch, answers, strict=True):
                assert replies.setdefault(request.payment_id, answer) == answer

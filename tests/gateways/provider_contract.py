"""The contract for gateways with a provider behind sockets: the fake one, which loses answers."""

import pytest

from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways.port import BatchGateway
from schemas.requests import PaymentRequest
from tests.gateways.contract import GatewayContract, definite
from tests.gateways.sample_requests import make_request, new_id


class ProviderContract(GatewayContract):
    """The contract, and what a provider's book has after it."""

    LARGE = 300
    USER = "user_456"
    METHOD = "credit_card"
    CURRENCY = "USD"
    """As the provider writes it."""

    @pytest.fixture(autouse=True)
    def _given(self, provider: FakeProvider) -> None:
        self.provider = provider
        self.prefix = f"{new_id()}_"

    def requests(self, number: int) -> list[PaymentRequest]:
        """Return payments of this test; every fifth is declined."""
        return [
            make_request(
                f"{self.prefix}{n}" + (":decline_insufficient_funds" if n % 5 == 4 else ""),
                userId=self.USER,
                paymentMethod=self.METHOD,
            )
            for n in range(number)
        ]

    def flaky_requests(self) -> list[PaymentRequest]:
        requests = self.requests(20)
        lost = [request.payment_id for request in requests[:10]]
        faults = [{"fault": "reset_after", "payment_ids": lost, "times": 10}]
        self.provider.change(faults=faults)
        return requests

    def test_it_has_no_batches(self) -> None:
        assert not isinstance(self.build(), BatchGateway)

    def test_each_payment_is_in_the_book_once_with_its_amount(self) -> None:
        requests = self.flaky_requests()
        self.play(lambda gateway: definite(gateway, requests))
        self.play(lambda gateway: definite(gateway, requests))
        ids = {request.payment_id for request in requests}
        booked = [each for each in self.provider.book() if each.payment_id in ids]
        assert sorted(each.payment_id for each in booked) == sorted(ids)
        assert {(each.amount, each.currency) for each in booked} == {(9999, self.CURRENCY)}

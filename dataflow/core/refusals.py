"""Refused requests: is it that payment, or would the provider refuse all of them?

A provider refuses a request whose customer or payment method it does not have. Those of another
account, or of the test mode, has none of them: with its credentials every payment is refused, and
each refusal would be published as a decline, for good.

1. A refusal is believed, and decides its payment, if fewer than `ROW` - 1 came before it since the
   provider last *decided* about a payment. So at most `ROW` - 1 of them are published wrongly.
2. One that is not believed is one of us, as wrong credentials are: its payment is kept, and asked
   for again.
3. A decision ends the row, and nothing else does: an approval, or the decline of a payment whose
   request the provider has taken. Nor does an outage, or a payment that is declined without a call.
4. So does a *witness*: a payment that was approved in this process, if the provider still has it.
   It is looked up in the middle of a row and at its end, so that many bad requests of one sender,
   with none of others in between, hold nothing for longer than that takes.
"""

from schemas.requests import PaymentRequest

ROW = 20


class Refusals:
    """The refused requests of one process, in a row."""

    def __init__(self) -> None:
        self.witness: PaymentRequest | None = None
        """The payment that was approved last."""
        self._row = 0

    @property
    def are_believed(self) -> bool:
        """True until a whole row of them has come."""
        return self._row < ROW

    def refused(self) -> bool:
        """Note a refusal; return whether it is believed."""
        self._row += 1
        return self.are_believed

    def decided(self) -> None:
        """Note that the provider has decided about a payment."""
        self._row = 0

    @property
    def is_witness_due(self) -> bool:
        """True if the refusal that was noted last is the one to look the witness up at."""
        return self._row in {ROW // 2, ROW}

"""The possible answers of a payment gateway about one payment.

Two are definite: `Approved` and `Declined`. The others state why there is no decision yet, because
the next step depends on it: see `dataflow.gateways.port`.
"""

from enum import Enum, auto

from msgspec import Struct

from schemas.outcomes import ErrorCode


class Approved(Struct, frozen=True, gc=False):
    """The payment went through."""

    reference: str
    """The provider's own id of the charge, 1 to 255 characters: `gatewayReference`.

    One that cannot be published is changed by `dataflow.gateways.replies`, as are other fields.
    """


class DeclineBasis(Enum):
    """The reason why a payment is declined, by what it shows of the provider."""

    DECISION = auto()
    """The provider has taken the request, and decided about the payment."""
    REFUSAL = auto()
    """It has refused the request for what is in it. If it refuses all, it does not know us."""
    NOT_SENT = auto()
    """Nothing was sent: the provider takes no such payment."""


class Declined(Struct, frozen=True, gc=False):
    """The provider decided against the payment. Final: the paymentId stays claimed."""

    code: ErrorCode
    message: str
    """For people; must not contain card data. At most 500 characters are published."""
    retryable: bool
    """True if the payer may try again with a *new* paymentId."""
    provider_code: str | None = None
    """The provider's own code, 1 to 64 characters, if it has one: `error.providerCode`."""
    basis: DeclineBasis = DeclineBasis.DECISION
    """Not published."""

    @property
    def is_refusal(self) -> bool:
        """True if the request was refused, and nothing executed."""
        return self.basis is DeclineBasis.REFUSAL


class NotExecuted(Struct, frozen=True, gc=False):
    """The charge certainly did not happen: no connection, HTTP 429, or 503 by contract."""

    reason: str
    """For the log; so are the other reasons."""
    retry_after_s: float | None = None
    """The pause that the provider demands, if it does."""
    too_many: bool = False
    """True if it was one call too many (HTTP 429): all calls slow down, and it is no outage."""


class Unknown(Struct, frozen=True, gc=False):
    """The charge may have happened: no answer, or none that can be trusted."""

    reason: str
    saved: bool = False
    """True if the provider has saved this answer: the same key gets the same answer again."""
    too_many: bool = False
    """True if a look-up was one call too many (HTTP 429): as with `NotExecuted`."""


class Pending(Struct, frozen=True, gc=False):
    """The provider has accepted the charge, and decides later."""

    reference: str
    """The provider's own id of the charge."""


class Misconfigured(Struct, frozen=True, gc=False):
    """The gateway cannot work as it is configured: wrong key, URL, permission or trusted CA."""

    reason: str


Definite = Approved | Declined
Reply = Definite | NotExecuted | Unknown | Pending | Misconfigured

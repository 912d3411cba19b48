"""The replies of a provider, made fit for the events and the log, whatever an adapter lets pass.

A reply decides a payment. Its decision stands, also if its words cannot be published:

    field                   if it is unfit
    Approved.reference      control characters and halves of surrogate pairs become U+FFFD; what is
                            longer than 255 characters is cut, and ends with an ellipsis; a number
                            becomes text; anything else, or nothing, `NO_REFERENCE`
    Declined.code           `declined`, if it is not one of ours for a decline; what it was becomes
                            the `provider_code`, unless there is one
    Declined.message        as a reference, up to 500 characters; card numbers are masked;
                            anything else, or nothing, a sentence of ours
    Declined.retryable      false, if it is not true
    Declined.basis          `DECISION`, if it is none
    Declined.provider_code  as a message, up to 64 characters; anything else, or nothing, None

Reasons of the other replies are only logged: see `quoted`.

Card numbers are not masked in a reference: it is an id, of digits with some providers, and without
it the charge cannot be found. The same reply always becomes the same, so that a payment that is
charged again after a crash has the same events.
"""

import re
import time
from collections.abc import Sequence

import structlog
from msgspec.structs import astuple

from dataflow.observability import tracing
from schemas import cards
from schemas.events import MAX_MESSAGE, MAX_PROVIDER_CODE, MAX_REFERENCE
from schemas.headers import Headers
from schemas.outcomes import DECLINE_CODES, ErrorCode
from schemas.replies import Approved, DeclineBasis, Declined, Definite, Reply
from schemas.requests import PaymentRequest

NO_REFERENCE = "(none)"
"""The reference of a payment that was approved without one."""
_NO_MESSAGE = "The payment was declined."
_MAX_REASON = 200
"""The characters of a reason that an error or a log line quotes."""
_MAX_BITS = 800
"""Of a reference that is a number: 241 digits. Python refuses to write out very large ones."""
_LOG_EVERY_S = 1.0

# Controls, ends of lines, changes of direction, surrogates, and what is no character at all.
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)

_log = structlog.get_logger()


class Publishable:
    """A filter that makes replies fit, and logs that it had to: one line a second at most."""

    _logged_at_s = -_LOG_EVERY_S

    def __call__(
        self,
        requests: Sequence[PaymentRequest],
        replies: list[Reply],
        headers: Sequence[Headers] = (),
    ) -> list[Reply]:
        """Return the replies to these requests, with these headers, fit to be published."""
        if _are_fit(replies):
            return replies
        fit = [_fit(reply) for reply in replies]
        changed = [n for n, reply in enumerate(replies) if fit[n] is not reply]
        now_s = time.monotonic()
        if changed and now_s - self._logged_at_s >= _LOG_EVERY_S:
            self._logged_at_s = now_s
            _log.warning(
                "gateway reply changed: parts of it cannot be published",
                paymentId=requests[changed[0]].payment_id,
                published=repr(fit[changed[0]]),
                of_this_batch=len(changed),
                **tracing.in_log(headers[changed[0]] if headers else []),
            )
        return fit


def quoted(reason: object) -> str:
    """Return a reason, or the text of an exception, for an error or a log line."""
    try:
        text = f"{type(reason).__name__}: {reason}" if isinstance(reason, Exception) else reason
    except Exception:  # noqa: BLE001  (whatever a foreign __str__ does)
        text = None
    return _text(text, _MAX_REASON, masked=True) or type(reason).__name__


def _are_fit(replies: list[Reply]) -> bool:
    """Return whether all are, in a few calls for the whole batch: nearly always, they are.

    It may be false for some that are (a long message): those are looked at one by one, then.
    """
    declined = [each for each in replies if type(each) is Declined]
    words = [
        text
        for each in declined
        for text in (each.message, "-" if each.provider_code is None else each.provider_code)
    ]
    texts = words + [each.reference for each in replies if type(each) is Approved]
    if not texts:
        return True
    if not (
        set(map(type, texts)) == {str}
        and min(map(len, texts)) > 0
        and max(map(len, texts)) <= MAX_REFERENCE
        and "".join(texts).isprintable()
    ):
        return False
    if not declined:
        return True
    codes = [each.code for each in declined]
    joined = "\n".join(set(words))
    return (
        set(map(type, codes)) == {ErrorCode}
        and DECLINE_CODES.issuperset(codes)
        and {type(each.retryable) for each in declined} == {bool}
        and {type(each.basis) for each in declined} == {DeclineBasis}
        and max(map(len, words[1::2])) <= MAX_PROVIDER_CODE
        and cards.masked(joined) == joined
    )


def _fit(reply: Reply) -> Reply:
    """Return the reply itself if it is fit, otherwise one that is."""
    if not isinstance(reply, Definite):
        return reply
    fit = _fit_approval(reply) if isinstance(reply, Approved) else _fit_decline(reply)
    fields = zip(astuple(fit), astuple(reply), strict=True)
    # 1 is equal to True, and "declined" to a code; neither is as good.
    return reply if all(type(a) is type(b) and a == b for a, b in fields) else fit


def _fit_approval(reply: Approved) -> Approved:
    return Approved(_text(reply.reference, MAX_REFERENCE) or NO_REFERENCE)


def _fit_decline(reply: Declined) -> Declined:
    code, theirs = reply.code, reply.provider_code
    # What is no text need not even have a hash.
    if not isinstance(code, str) or code not in DECLINE_CODES:
        code, theirs = ErrorCode.DECLINED, theirs or code
    return Declined(
        ErrorCode(code),
        _text(reply.message, MAX_MESSAGE, masked=True) or _NO_MESSAGE,
        retryable=reply.retryable is True,
        provider_code=_text(theirs, MAX_PROVIDER_CODE, masked=True) or None,
        basis=reply.basis if isinstance(reply.basis, DeclineBasis) else DeclineBasis.DECISION,
    )


def _text(value: object, most: int, *, masked: bool = False) -> str:
    """Return what a provider sent as a text of at most so many characters; empty if it is none."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < _MAX_BITS:
        value = str(value)
    if not isinstance(value, str):
        return ""
    # Masked before it is cut, since half a card number is not recognised as one; and not all of
    # what may be megabytes.
    text = _UNFIT.sub("\ufffd", value[: most + cards.LONGEST])
    if masked:
        text = cards.masked(text)
    return text if len(text) <= most else text[: most - 1] + "…"

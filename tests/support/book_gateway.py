"""A gateway whose provider keeps its book in a file, which outlives every crash of the flow.

`GATEWAY=tests.support.book_gateway:BookGateway`, with the path in `BOOK`. A key that comes with
other content than at first is noted as an error. A paymentId with `hangs` gets no answer while the
file `BOOK.down` exists; nobody does while `BOOK.out` exists.
"""

import asyncio
import json
import os
from pathlib import Path

from dataflow.gateways.port import Approved, NotExecuted, Reply, Traits, Unknown
from schemas.requests import PaymentRequest


class BookGateway:
    """Appends a line for each movement: key, paymentId and amount."""

    traits = Traits(key_life_s=None, saves_errors=False, has_lookup=True)

    def __init__(self) -> None:
        self._book = Path(os.environ.get("BOOK", "/dev/null"))
        self._known: dict[str, dict[str, str]] = {}
        self._read_bytes = 0

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Charge once for each key, whatever happens in between."""
        await asyncio.sleep(0.002)
        if self._book.with_suffix(".out").exists():
            return NotExecuted("connection refused")
        known = self._movement(key)
        content = str(request.amount.normalize())
        if known is None:
            line = {"key": key, "paymentId": request.payment_id, "amount": content}
            with self._book.open("a") as book:
                book.write(json.dumps(line) + "\n")
        elif known["amount"] != content:
            with self._book.with_suffix(".errors").open("a") as errors:
                errors.write(f"{request.payment_id}: {known['amount']} is not {content}\n")
            return Unknown("the key was used with other content", saved=True)
        if "hangs" in request.payment_id and self._book.with_suffix(".down").exists():
            return Unknown("timeout")
        return Approved(f"ch_{key}")

    async def lookup(self, request: PaymentRequest, key: str) -> Reply | None:
        """Return the movement of a key."""
        return Approved(f"ch_{key}") if self._movement(key) and request else None

    async def probe(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def _movement(self, key: str) -> dict[str, str] | None:
        """Return the movement of a key; other processes write to the book, too."""
        if self._book.is_file():
            with self._book.open("rb") as book:
                book.seek(self._read_bytes)
                more, end, _ = book.read().rpartition(b"\n")
            self._read_bytes += len(more) + len(end)
            self._known |= {line["key"]: line for line in map(json.loads, more.splitlines())}
        return self._known.get(key)


class ForgetfulGateway(BookGateway):
    """Keeps keys for a day, and has forgotten all of them: charges whatever it is sent."""

    traits = Traits(key_life_s=86_400, saves_errors=False, has_lookup=True)

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Charge once more."""
        line = {"key": key, "paymentId": request.payment_id, "amount": str(request.amount)}
        with self._book.open("a") as book:
            book.write(json.dumps(line) + "\n")
        return Approved(f"ch_{key}")


class SilentGateway(BookGateway):
    """Has no charge of a paymentId with `hangs`, and no answer about it."""

    async def charge(self, request: PaymentRequest, key: str) -> Reply:
        """Charge all others."""
        if "hangs" in request.payment_id:
            return Unknown("timeout")
        return await super().charge(request, key)


def movements(book: Path) -> list[dict[str, str]]:
    """Return all movements of money."""
    return [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []

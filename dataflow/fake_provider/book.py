"""The provider's book: payments, and the idempotency keys under which they were asked for.

1. A payment and the answer that is saved for its key are written in one transaction: a provider
   that is killed has done both, or neither.
2. A key that is in use when the provider is killed is free again: nothing was executed under it.
   So claims are in memory.
3. A key that is older than its life is forgotten, and the same key is a new payment.

SIGKILL ends a process, not the machine, so nothing is ever flushed to the disk.
"""

import json
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any

from msgspec import Struct

SUCCEEDED, DECLINED, CANCELED = "succeeded", "declined", "canceled"
PROCESSING, REQUIRES_ACTION = "processing", "requires_action"

_TABLES = """
CREATE TABLE IF NOT EXISTS payments (
    id TEXT PRIMARY KEY, idempotency_key TEXT, payment_id TEXT, customer TEXT, method TEXT,
    amount INTEGER, currency TEXT, status TEXT, code TEXT, advice TEXT, created_s REAL,
    finishes_s REAL, finishes_as TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_customer ON payments (customer, created_s);
CREATE INDEX IF NOT EXISTS of_key ON payments (idempotency_key);
CREATE INDEX IF NOT EXISTS due ON payments (finishes_s) WHERE finishes_s IS NOT NULL;
CREATE TABLE IF NOT EXISTS keys (
    endpoint TEXT, key TEXT, content TEXT, first_s REAL, asked INTEGER,
    status INTEGER, body BLOB, PRIMARY KEY (endpoint, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS settings (name TEXT PRIMARY KEY, value TEXT);
"""


class Payment(Struct, kw_only=True):
    """A payment in the book; `succeeded` is the only status that has moved money."""

    id: str
    idempotency_key: str
    payment_id: str
    customer: str
    method: str
    amount: int
    """In the provider's minor units."""
    currency: str
    status: str
    code: str | None = None
    """Why it was declined."""
    advice: str | None = None
    created_s: float
    finishes_s: float | None = None
    """The moment at which a status that is not final becomes `finishes_as`."""
    finishes_as: str | None = None


class Saved(Struct):
    """The answer that is kept for a key."""

    status: int
    body: bytes


class _Claim(Struct):
    """A key that is in use by a request in flight."""

    content: str
    first_s: float
    asked: int = 1


class Refused(Enum):
    """The reasons why a request may not be executed under its key."""

    IN_FLIGHT = "in flight"
    OTHER_CONTENT = "other content"


_COLUMNS = ", ".join(Payment.__struct_fields__)
_MARKS = ", ".join("?" for _ in Payment.__struct_fields__)


class Book:
    """The book, in one file."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.executescript(_TABLES)
        self._claims: dict[tuple[str, str], _Claim] = {}

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- keys ----

    def claim(
        self, endpoint: str, key: str, content: str, now_s: float, life_s: float
    ) -> Saved | Refused | None:
        """Claim a key for a request; otherwise return why not, or the answer that it has."""
        claim = self._claims.get((endpoint, key))
        if claim is not None and claim.first_s >= now_s - life_s:
            claim.asked += 1
            return Refused.IN_FLIGHT if claim.content == content else Refused.OTHER_CONTENT
        row = self._db.execute(
            "SELECT first_s, content, status, body FROM keys WHERE endpoint = ? AND key = ?",
            (endpoint, key),
        ).fetchone()
        if row is not None and row[0] < now_s - life_s:
            self.release(endpoint, key)
            row = None
        if row is None:
            self._claims[endpoint, key] = _Claim(content, now_s)
            return None
        self._db.execute(
            "UPDATE keys SET asked = asked + 1 WHERE endpoint = ? AND key = ?", (endpoint, key)
        )
        _, was, status, body = row
        return Saved(status, body) if was == content else Refused.OTHER_CONTENT

    def release(self, endpoint: str, key: str) -> None:
        """Give up a claim, as if the request had never come."""
        self._claims.pop((endpoint, key), None)
        self._db.execute("DELETE FROM keys WHERE endpoint = ? AND key = ?", (endpoint, key))

    def execute(self, endpoint: str, key: str, answer: Saved, payment: Payment | None) -> None:
        """Write a payment, if it is executed, and the answer for its key."""
        self._db.execute("BEGIN IMMEDIATE")
        if payment is not None:
            values = [getattr(payment, name) for name in Payment.__struct_fields__]
            self._db.execute(f"INSERT OR REPLACE INTO payments VALUES ({_MARKS})", values)  # noqa: S608  (constants)
        claim = self._claims.pop((endpoint, key), None)
        if claim is not None:
            values = [endpoint, key, claim.content, claim.first_s, claim.asked]
            self._db.execute(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?, ?)",
                [*values, answer.status, answer.body],
            )
        else:
            # Executed a second time, while it was in flight.
            self._db.execute(
                "UPDATE keys SET status = ?, body = ? WHERE endpoint = ? AND key = ?",
                (answer.status, answer.body, endpoint, key),
            )
        self._db.execute("COMMIT")

    def asked(self, key: str) -> int:
        """Return how often a key was asked for, on all endpoints, since it is in use."""
        query = "SELECT coalesce(sum(asked), 0) FROM keys WHERE key = ?"
        in_flight = sum(claim.asked for (_, each), claim in self._claims.items() if each == key)
        return int(self._db.execute(query, (key,)).fetchone()[0]) + in_flight

    # ---- payments ----

    def finish_due(self, now_s: float) -> None:
        """Let every payment whose time has come reach its final status."""
        self._db.execute(
            "UPDATE payments SET status = finishes_as, finishes_s = NULL WHERE finishes_s <= ?",
            (now_s,),
        )

    def payment(self, payment_id: str) -> Payment | None:
        """Return the payment with an id of the provider's."""
        found = self._payments("id = ?", (payment_id,))
        return found[0] if found else None

    def under_key(self, key: str) -> list[Payment]:
        """Return the payments that were executed under a key: several, once it had expired."""
        return self._payments("idempotency_key = ? ORDER BY created_s", (key,))

    def of_customer(self, customer: str, since_s: float) -> list[Payment]:
        """Return a customer's payments, the newest first."""
        where = "customer = ? AND created_s >= ? ORDER BY created_s DESC, id DESC"
        return self._payments(where, (customer, since_s))

    def everything(self) -> list[Payment]:
        """Return all payments, the oldest first."""
        return self._payments("1 ORDER BY created_s, id", ())

    def page(
        self, prefix: str, since_s: float, until_s: float, after: str, size: int
    ) -> list[Payment]:
        """Return the payments of a shape from one instant on, in the order of their ids."""
        where = (
            "substr(id, 1, ?) = ? AND created_s >= ? AND created_s < ? AND id > ?"
            " ORDER BY id LIMIT ?"
        )
        return self._payments(where, (len(prefix), prefix, since_s, until_s, after, size))

    def count(self, status: str) -> int:
        """Return how many payments have a status."""
        query = "SELECT count(*) FROM payments WHERE status = ?"
        return int(self._db.execute(query, (status,)).fetchone()[0])

    def set_status(self, payment_id: str, status: str) -> None:
        """Change the status of a payment for good."""
        self._db.execute(
            "UPDATE payments SET status = ?, finishes_s = NULL WHERE id = ?", (status, payment_id)
        )

    def _payments(self, where: str, values: tuple[Any, ...]) -> list[Payment]:
        rows = self._db.execute(f"SELECT {_COLUMNS} FROM payments WHERE {where}", values)  # noqa: S608  (constants)
        return [Payment(**dict(zip(Payment.__struct_fields__, row, strict=True))) for row in rows]

    # ---- settings ----

    def settings(self) -> dict[str, Any]:
        """Return the settings that were written."""
        rows = self._db.execute("SELECT name, value FROM settings")
        return {name: json.loads(value) for name, value in rows}

    def write_settings(self, settings: dict[str, Any]) -> None:
        """Keep settings for the next process."""
        self._db.executemany(
            "INSERT OR REPLACE INTO settings VALUES (?, ?)",
            [(name, json.dumps(value)) for name, value in settings.items()],
        )

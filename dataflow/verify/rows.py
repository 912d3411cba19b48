"""The numbers kept of each record: a row, as wide for a large record as for a small one.

Texts are kept as hashes (BLAKE2b), which are equal when the texts are, so that rows of different
topics can be compared. Where a person must see more, the record itself is read again.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[Any]
"""A structured array of one of the types below."""

_KEY = [("key_high", "<u8"), ("key_low", "<u8")]
_MONEY = [("minor", "<i8"), ("currency", "<u2")]

REQUEST = np.dtype(
    [
        ("origin", "<u8"),  # see `dataflow.core.origins.origin`
        ("valid", "?"),
        ("named", "?"),  # has a readable paymentId
        *_KEY,  # of the paymentId; without one, whatever decides its lane
        ("print", "<u8"),  # what makes a copy a duplicate, not a conflict
        ("content", "<u8"),  # all that an outcome has to repeat
        *_MONEY,
        ("time_ms", "<i8"),
        ("high_ms", "<i8"),  # the highest timestamp in its partition up to here
    ]
)
"""A record of the input."""

OUTCOME = np.dtype(
    [
        ("origin", "<u8"),
        ("topic", "u1"),  # 0 for processed, 1 for failed
        ("content", "<u8"),
        ("reply", "<u8"),  # the gateway's reference, or the error
        ("decided_ms", "<i8"),
        *_MONEY,
        ("partition", "<u4"),
        ("offset", "<i8"),
    ]
)
"""An event on the processed or the failed topic."""

AUDIT = np.dtype(
    [
        ("origin", "<u8"),
        ("verdict", "u1"),
        ("key_low", "<u8"),
        ("reply", "<u8"),
        ("decided_ms", "<i8"),
        ("first", "<u8"),  # origin of the record that claimed the paymentId
        ("partition", "<u4"),
        ("offset", "<i8"),
    ]
)
"""An event on the audit topic."""

SIGHTING = np.dtype(
    [
        *_KEY,
        ("origin", "<u8"),
        ("valid", "?"),
        ("verdict", "u1"),
        ("print", "<u8"),
        ("first", "<u8"),
        ("time_ms", "<i8"),
        ("high_ms", "<i8"),
        ("decided_ms", "<i8"),
        ("partition", "<u4"),  # of the audit event
        ("offset", "<i8"),
        ("required", "?"),
    ]
)
"""A record with a paymentId, and the audit trail's verdict on it."""

CLAIM = np.dtype(
    [
        *_KEY,
        ("origin", "<u8"),
        ("print", "<u8"),
        ("partition", "<u4"),  # of the record in the log
        ("offset", "<i8"),
    ]
)
"""An entry of the lanes' log: a paymentId, and the record that has claimed it."""

PENDING_ENTRY = np.dtype(
    [
        ("origin", "<u8"),
        *_KEY,
        ("print", "<u8"),
        ("partition", "<u4"),  # of the record in the pending topic
        ("offset", "<i8"),
    ]
)
"""An open entry of the pending topic: a record that waits for the gateway."""

NONE, PROCESSED, FAILED, DUPLICATE, CONFLICT, PENDING = range(6)
"""Verdicts: NONE where there is no audit event; PENDING where there is an open entry instead."""

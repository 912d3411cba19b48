"""The rule by which a payment is asked for again, and when a person has to look at it.

1. While its lane waits, soon: after 0.3 s, then twice as long each time, up to `SOON_MOST_S`.
2. Once it is parked: after 1 m, 5 m, 15 m, 1 h, 4 h, 12 h, and every 12 h from then on.
3. A pause is drawn between half of that and all of it, so that payments which failed together do
   not come back together.
4. It is posted, under the same key, while the key is younger than its life less `KEY_MARGIN_S`.
   After that a post might be a new charge: it is only looked up.
5. An old key that the provider has no charge of, or a provider that cannot look up, leaves it to a
   person: the payment is *unresolved*. So does `UNRESOLVED_AFTER_S` after it was parked. But if no
   post is known that may have been executed, a look-up that finds nothing proves that the payment
   is new: it is posted. What is unresolved is not posted any more: a person may have paid it in
   another way. It is looked up only.
"""

from enum import Enum, auto

SOON_MOST_S = 5.0
_SOON_FIRST_S = 0.3
PARKED_UNIT_S = 60.0
PARKED_UNITS = (1, 5, 15, 60, 4 * 60, 12 * 60)
KEY_MARGIN_S = 3600.0
UNRESOLVED_AFTER_S = 3 * 24 * 3600.0


class Ask(Enum):
    """The way to ask for a payment."""

    POST = auto()
    LOOK_UP = auto()
    NOTHING = auto()
    """There is no safe way: a person has to look at it."""


def way_to_ask(age_s: float, key_life_s: float | None, *, can_look_up: bool) -> Ask:
    """Return how to ask for a payment.

    Args:
        age_s: Since it may have been posted first.
        key_life_s: For how long the provider keeps a key; None for ever.
        can_look_up: Whether the provider can be asked what became of a payment.
    """
    if key_life_s is None or age_s < key_life_s - KEY_MARGIN_S:
        return Ask.POST
    return Ask.LOOK_UP if can_look_up else Ask.NOTHING


def soon_s(attempts: int, draw: float) -> float:
    """Return the pause after so many attempts while the lane waits; `draw` is from 0 to 1."""
    return _drawn(min(SOON_MOST_S, _SOON_FIRST_S * 2.0 ** min(attempts - 1, 10)), draw)


def parked_s(attempts: int, draw: float) -> float:
    """Return the pause after so many attempts since it was parked, or that parked it."""
    return _drawn(PARKED_UNIT_S * PARKED_UNITS[min(max(attempts, 1), len(PARKED_UNITS)) - 1], draw)


def _drawn(pause_s: float, draw: float) -> float:
    return pause_s * (0.5 + 0.5 * draw)

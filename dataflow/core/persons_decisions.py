"""A person's decision about a payment that waits for the gateway: when it is carried out.

1. From the moment that the flow has it, the payment is only looked up, never posted.
2. What may still be on its way ends first: a call in flight, and, unless its key is old, `QUIET_S`
   since the last post, or since the start. Then the provider is asked once more, if it can be.
3. A definite answer of the provider counts, whatever the person has decided: money has moved, or it
   has not. A decision that contradicts it would publish what is not so.
4. A charge that the provider has accepted and not decided will have an answer: it is waited for,
   unless the decision is forced.
5. Else the decision stands: the provider has no such charge, answers the same for ever, or has
   given no answer `LOOK_UPS_MOST` times. While it cannot be reached at all, the decision waits.
6. A decision about a payment that has its outcome has no effect; nor has one about a payment that
   is asked for by itself, unless it is forced.
"""

from collections import defaultdict
from typing import Any

from dataflow.core.lane_log import is_of_a_lane
from dataflow.core.lanes import lane_of_key
from schemas import decisions
from schemas.decisions import PersonsDecision
from schemas.replies import Approved, Declined, Definite, Pending, Reply, Unknown
from schemas.requests import key_of

QUIET_S = 180.0
"""After a post: the longest that a call takes, and a minute for what is on its way then."""
LOOK_UPS_MOST = 5


def outcome(decision: PersonsDecision, found: Reply | None, fruitless: int) -> Definite | None:
    """Return what ends a payment that a person has decided; None if it is asked for again.

    Args:
        decision: The person's.
        found: The provider's answer to a look-up since; None if it has no such charge, or cannot
            be asked.
        fruitless: How many look-ups since have given no answer.
    """
    if isinstance(found, Approved | Declined):
        return found
    if isinstance(found, Pending):
        return decision.reply if decision.force else None
    is_final = isinstance(found, Unknown) and (found.saved or fruitless >= LOOK_UPS_MOST)
    return decision.reply if found is None or is_final else None


class DecisionInbox:
    """The decisions on the pending topic, as its records leave them, until they are taken out.

    Args:
        lanes: How many lanes there are.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._open: dict[bytes, PersonsDecision] = {}

    def take(self, key: bytes | None, value: bytes | None, headers: Any) -> None:
        """Take in a record; they come in their order, and those that are no decisions are passed.

        Raises:
            ValueError: it has the key of a decision, and is none.
        """
        if key is None or not decisions.is_decision(key):
            return
        if value is not None:
            self._open[key] = decisions.decode(key, value)
        elif is_of_a_lane(headers):
            self._open.pop(key, None)

    def take_out(self) -> dict[int, list[PersonsDecision]]:
        """Return the decisions that are open, by lane; once each, and only at the topic's end."""
        found: defaultdict[int, list[PersonsDecision]] = defaultdict(list)
        for each in self._open.values():
            found[lane_of_key(key_of(each.payment_id), self._lanes)].append(each)
        self._open.clear()
        return dict(found)

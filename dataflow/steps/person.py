"""The decisions of persons about what is parked, on their way through a lane.

The rules are those of `dataflow.core.persons_decisions`. A lane hands a decision to the gateway,
and ends it with the outcome that comes back, whichever that is.
"""

from collections.abc import Callable, Sequence

import structlog

from dataflow.core.charging import LaneCharging
from dataflow.core.items import OutcomeBatch
from dataflow.core.lane_queue import Answer, Charge
from dataflow.observability import tracing
from schemas.decisions import PersonsDecision
from schemas.headers import Headers

_log = structlog.get_logger()


class Person:
    """The decisions about what the lanes of a process have parked.

    Args:
        come: Returns the decisions that have come for a lane since the last call.
        charging: The gateway.
    """

    def __init__(
        self, come: Callable[[int], Sequence[PersonsDecision]], charging: LaneCharging
    ) -> None:
        self._come = come
        self._charging = charging
        self._parked: dict[str, Charge] = {}
        self._decisions: dict[str, PersonsDecision] = {}

    def note_parked(self, event_id: str, charge: Charge) -> None:
        """Note what may be decided from now on."""
        self._parked[event_id] = charge

    def take(self, lane: int) -> list[str]:
        """Take in what has come for a lane; return the eventIds of what has no effect."""
        return [each.event_id for each in self._come(lane) if not self._carry_out(each)]

    def end(self, event_id: str, answer: Answer, out: OutcomeBatch) -> None:
        """End a decision, if there is one, with the outcome that its payment has now."""
        del self._parked[event_id]
        decision = self._decisions.pop(event_id, None)
        if decision is not None:
            out.decisions_done.append(event_id)
        if answer.decision is not None:
            out.resolutions[event_id] = answer.decision.resolution
            _log.info(
                "a person's decision is carried out",
                paymentId=answer.decision.payment_id,
                **tracing.in_log(answer.charge.headers),
            )
        elif decision is not None:
            _log_no_effect(decision, "the provider has answered", answer.charge.headers)

    def _carry_out(self, decision: PersonsDecision) -> bool:
        """Have a decision carried out; False if it has no effect."""
        charge = self._parked.get(decision.event_id)
        if charge is None or charge.request.payment_id != decision.payment_id:
            reason = "the payment does not wait for the gateway: it has its outcome"
        elif not charge.is_unresolved and not decision.force:
            reason = "the payment is not unresolved: it is asked for by itself"
        else:
            self._decisions[decision.event_id] = decision
            self._charging.decide(charge, decision)
            return True
        _log_no_effect(decision, reason, [] if charge is None else charge.headers)
        return False


def _log_no_effect(decision: PersonsDecision, reason: str, headers: Headers) -> None:
    _log.warning(
        "a person's decision has no effect",
        paymentId=decision.payment_id,
        reason=reason,
        by=decision.by,
        **tracing.in_log(headers),
    )

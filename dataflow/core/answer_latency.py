"""The time that a lane waits for an answer, and the records that the provider can answer in it.

A lane emits in order: a payment that is not answered holds up those behind it in its lane, for
this time, after which it is parked. A time that is too short parks what is merely slow, at two
records each; one that is too long shows in the latency of the neighbours of a payment which never
gets an answer.

1. It follows what the provider takes for definite answers: several times the mean, and what is
   queued before.
2. Until there is an answer, the guess is a slow provider: a fast one corrects it within one round
   trip, while the other way round everything read so far would be parked.
"""

_GUESS_S = 0.5
_SHARE = 0.02
"""The part of the mean that the last answer makes up."""
_MEANS = 4.0
_LEAST_S = 0.4
_ADDED_S = 0.3
_AHEAD_S = 0.25
"""The time for which calls are queued beyond those in flight, so that the window never runs dry."""
_FASTEST_S = 0.005
"""Below, what a source may read at once is bounded by something else."""


class AnswerLatency:
    """The time that the provider takes for a definite answer.

    Args:
        most_s: The longest that a lane waits.
    """

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self.mean_s = _GUESS_S

    def answered(self, seconds: float) -> None:
        """Note that a definite answer took so long."""
        self.mean_s += _SHARE * (seconds - self.mean_s)

    def park_after_s(self, queued: int, window: int) -> float:
        """Return how long a lane waits for an answer, with so many calls before it."""
        queue_s = queued * self.mean_s / max(1, window)
        return min(self._most_s, max(_LEAST_S, _ADDED_S + _MEANS * self.mean_s) + queue_s)

    def credit(self, outstanding: int, window: int, epoch_s: float) -> int:
        """Return how many more records may be read, with so many payments under way.

        Args:
            outstanding: Read, and not answered.
            window: Calls that may be in flight.
            epoch_s: From reading to the proof that the claim is committed.
        """
        ahead = (_AHEAD_S + epoch_s) / max(self.mean_s, _FASTEST_S)
        return max(0, int(window * (1 + ahead)) - outstanding)

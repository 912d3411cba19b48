"""The queue of a lane: from the claim of a payment to its outcome, or to where it is parked.

1. A batch is queued in the epoch in which it was read, and its claims are written in that epoch.
2. Its payments are charged in a later epoch, as only that proves that the claims are committed. So
   what is charged is what is remembered, whatever crashes: a restart finds the claim, and charges
   the same record again, under the same key.
3. The head leaves the queue when all of it is answered, or when it has waited for an answer longer
   than it may; what has no answer then is parked. A head that is not charged yet has not
   waited.
4. What has left a queue is always a prefix of what was put in: so the lane's position, which is
   committed with it, may move on.
5. A *flush* makes everything up to an offset of a partition leave, answered or not. What is parked
   before it was charged is charged once its claim is committed.
6. The answer for what is parked resolves it.
7. The key of a payment ages from when its record was read: a process that was suspended since may
   be fenced, and the run that has taken over may have charged it long ago.

Long because all of them are about one queue, and the records of what is in it.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dataflow.core.items import DedupedBatch
from dataflow.core.parked_ages import ParkedAges
from schemas.decisions import PersonsDecision
from schemas.headers import Headers
from schemas.pending import PendingEntry, PendingState, seconds
from schemas.replies import Definite
from schemas.requests import PaymentRequest


@dataclass(slots=True, eq=False)
class Charge:
    """One payment that the gateway is asked for, until there is a definite answer."""

    lane: int
    request: PaymentRequest
    first_asked_s: float
    """No earlier than this it may have been charged, in seconds since 1970."""
    attempts: int = 0
    reason: str = ""
    """Why the last attempt brought no answer."""
    may_be_charged: bool = False
    """True if an earlier run may have charged it: it is looked up before it is posted."""
    is_unsent: bool = False
    """True if no post is known that may have been executed: what a look-up does not find is new."""
    look_up: bool = False
    """True if to post it again would not help."""
    queued: "QueuedBatch | None" = None
    """The batch that waits for it; None once it is parked by a run before this one."""
    number: int = 0
    """Which of the batch's payments it is."""
    parked: PendingEntry | None = None
    """Its entry, from when it is parked until it is resolved."""
    attempts_parked: int = 0
    next_attempt_s: float | None = None
    """In seconds since 1970; None if it is under way, or if there will be none."""
    is_unresolved: bool = False
    """True if there is no safe way to ask any more."""
    decision: PersonsDecision | None = None
    """A person's: from then on it is only looked up."""
    posted_s: float = 0.0
    """The time of the last post, or one since this run has started: an earlier one may have posted
    it."""
    quiet_until_s: float = 0.0
    """Until then what was posted may be on its way; both by the monotonic clock."""
    fruitless: int = 0
    """The look-ups since the decision that have given no answer."""
    headers: Headers = field(default_factory=list)
    """Those of its request that are passed on."""
    is_answered: bool = False
    """True once its lane gets the answer that ends it."""


@dataclass(slots=True, eq=False)
class QueuedBatch:
    """A batch in the queue of its lane."""

    lane: int
    batch: DedupedBatch
    due: list[int]
    """Which of its records are to be charged."""
    claimed_in: int
    """The epoch that its claims are written in."""
    replies: list[Definite | None]
    """The answers, aligned with `due`."""
    left: int
    """The number of them that are still to come."""
    charged_s: float | None = None
    """The time at which the gateway was asked, by the monotonic clock."""
    has_left: bool = False
    charges: dict[int, Charge] = field(default_factory=dict)
    """Of those that are asked for one by one, by their number in `due`."""

    def charge(self, number: int, now_s: float) -> Charge:
        """Return one of its payments; `now_s` is in seconds since 1970."""
        charge = self.charges.get(number)
        if charge is None:
            record = self.due[number]
            request = self.batch.parsed[record]
            assert isinstance(request, PaymentRequest)
            is_again = record in self.batch.claimed_before
            first_s = min(now_s, self.batch.read_at)
            if is_again:
                first_s = min(first_s, int(self.batch.times_ms[record]) / 1000)
            charge = self.charges[number] = Charge(
                self.lane,
                request,
                first_s,
                may_be_charged=is_again,
                is_unsent=True,
                queued=self,
                number=number,
                headers=self.batch.headers.get(self.batch.offsets[record], []),
            )
        return charge

    def unanswered(self) -> list[int]:
        """Return the numbers of the payments without an answer."""
        if not self.left:
            return []
        return [number for number, reply in enumerate(self.replies) if reply is None]


@dataclass(slots=True, frozen=True)
class Answer:
    """News of a payment, for its lane."""

    charge: Charge
    reply: Definite | None
    """None if another attempt brought no answer: of interest only once it is parked."""
    decision: PersonsDecision | None = None
    """The decision of a person that the reply is; None if it is the gateway's."""


@dataclass(slots=True, frozen=True)
class BatchAnswer:
    """The answers for a batch of payments that were asked for at once."""

    queued: QueuedBatch
    replies: list[Definite | None]
    """Aligned with `due`."""
    reasons: dict[int, str]
    """Why there is none, by number."""


class LaneQueue:
    """The queue of one lane, and what it has parked."""

    def __init__(self, lane: int) -> None:
        self.lane = lane
        self.epoch = 0
        """The latest epoch that an item was of."""
        self.parked = ParkedAges()
        """The payments that are parked."""
        self._queue: deque[QueuedBatch] = deque()
        self._claimed: deque[QueuedBatch] = deque()
        self._resolved: list[Answer] = []

    # ---- what comes in ----

    def add(self, batch: DedupedBatch, due: list[int]) -> QueuedBatch:
        """Queue a batch of the present epoch; some of its records are due to be charged."""
        count = len(due)
        queued = QueuedBatch(self.lane, batch, due, self.epoch, [None] * count, count)
        self._queue.append(queued)
        if due:
            self._claimed.append(queued)
        return queued

    def begin(self, epoch: int, now_s: float) -> list[QueuedBatch]:
        """Note the epoch of an item; return the batches whose claims are committed by that.

        They are to be charged now. Those that have left the queue are parked.
        """
        self.epoch = max(epoch, self.epoch)
        committed = []
        while self._claimed and self._claimed[0].claimed_in < self.epoch:
            queued = self._claimed.popleft()
            queued.charged_s = now_s
            committed.append(queued)
        return committed

    def restore(self, charges: Sequence[Charge]) -> None:
        """Take over what an earlier run has parked."""
        entries = [(charge, charge.parked) for charge in charges if charge.parked is not None]
        for charge, entry in sorted(entries, key=lambda each: each[1].parked_at):
            self.park(charge, entry)

    def take(self, answers: Iterable[Answer | BatchAnswer], now_s: float) -> list[Charge]:
        """Take in answers; return the payments that are to be asked for again, one by one.

        Only the lane makes charges, so that there is one for each payment.
        """
        again: list[Charge] = []
        for answer in answers:
            if isinstance(answer, BatchAnswer):
                again += self._take_batch(answer, now_s)
            else:
                self._take_one(answer)
        return again

    def _take_one(self, answer: Answer) -> None:
        charge = answer.charge
        if charge.parked is not None:
            self._resolved.append(answer)
        elif answer.reply is not None and charge.queued is not None:
            queued = charge.queued
            if queued.replies[charge.number] is None:
                queued.replies[charge.number] = answer.reply
                queued.left -= 1

    def _take_batch(self, answer: BatchAnswer, now_s: float) -> list[Charge]:
        queued = answer.queued
        again = []
        for number, reason in answer.reasons.items():
            charge = queued.charge(number, now_s)
            charge.attempts += 1
            charge.is_unsent = False
            charge.reason = reason
            again.append(charge)
        if not queued.has_left:
            queued.replies = answer.replies
            queued.left = len(again)
            return again
        # It was parked meanwhile.
        for number, charge in queued.charges.items():
            if number not in answer.reasons:
                self._take_one(Answer(charge, answer.replies[number]))
        return again

    # ---- what goes out ----

    def leave(self, now_s: float, park_after_s: float) -> list[QueuedBatch]:
        """Return what leaves: the prefix that is answered, or was waited for long enough."""
        count = 0
        for queued in self._queue:
            if not _is_done(queued, now_s, park_after_s):
                break
            count += 1
        return self._pop(count)

    def flush(self, partition: int, upto: int) -> list[QueuedBatch]:
        """Return what leaves so that nothing of the partition below an offset stays."""
        count = 0
        for number, queued in enumerate(self._queue, 1):
            if queued.batch.partition == partition and queued.batch.next_offset <= upto:
                count = number
        return self._pop(count)

    def _pop(self, count: int) -> list[QueuedBatch]:
        left = [self._queue.popleft() for _ in range(count)]
        for queued in left:
            queued.has_left = True
        return left

    def park(self, charge: Charge, entry: PendingEntry | None) -> None:
        """Note the entry of a payment on the pending topic; None once it has its outcome."""
        charge.parked = entry
        if entry is None:
            self.parked.remove(charge)
        else:
            is_unresolved = entry.state is PendingState.UNRESOLVED
            self.parked.put(charge, seconds(entry.parked_at), is_unresolved=is_unresolved)

    def resolved(self) -> list[Answer]:
        """Return the news of what is parked."""
        news, self._resolved = self._resolved, []
        # Without what an answer has resolved that came before it.
        return [answer for answer in news if answer.charge.parked is not None]

    # ---- what others may know ----

    @property
    def claimed(self) -> int:
        """The number of payments that wait for their claim to be committed."""
        return sum(queued.left for queued in self._claimed)

    def lowest(self) -> dict[int, int]:
        """Return, by partition, below which offset nothing is in the queue."""
        lowest: dict[int, int] = {}
        for queued in self._queue:
            lowest.setdefault(queued.batch.partition, queued.batch.offsets[0])
        return lowest

    @property
    def oldest_s(self) -> float | None:
        """The time the oldest of the queued was read, in seconds since 1970; None if none is."""
        return min((queued.batch.read_at for queued in self._queue), default=None)

    @property
    def waits_since_s(self) -> float | None:
        """The time at which the head was charged; None if it was not, or there is none."""
        return self._queue[0].charged_s if self._queue else None

    @property
    def claims_in(self) -> int | None:
        """The epoch of the oldest claims that are not known to be committed; None if all are."""
        return self._claimed[0].claimed_in if self._claimed else None


def _is_done(queued: QueuedBatch, now_s: float, park_after_s: float) -> bool:
    if not queued.left:
        return True
    return queued.charged_s is not None and now_s - queued.charged_s >= park_after_s

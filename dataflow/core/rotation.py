"""Secrets that change while a process runs: when to check them, and when to start again.

1. A change counts once two looks in a row find the same: a pair of files may be half replaced.
2. What has changed is checked. Secrets that do not hold are checked again and again, as they may be
   right before those who are to accept them know them; meanwhile the old ones stay in use.
3. Secrets that hold are taken over by a restart, after a delay that differs between processes: all
   of a site would stop at once otherwise, and files reach one machine later than another. They are
   checked once more right before it: meanwhile they may have been withdrawn, or Kafka may be away.
4. Secrets that are back to what the process has started with need nothing.
"""

from collections.abc import Mapping
from enum import Enum

Digests = Mapping[str, str]
"""The hash of each file's content, by the variable that names it; empty for an unreadable one."""


class Action(Enum):
    """The next thing to do."""

    WAIT = 1
    CHECK = 2
    RESTART = 3
    """After a check; the secrets stay in use if it fails."""


class Rotation:
    """The secrets of one process.

    Args:
        in_use: Those that the process has started with.
        delay_s: From a successful check to the restart.
        check_every_s: Between two checks of secrets that do not hold.
    """

    def __init__(self, in_use: Digests, *, delay_s: float, check_every_s: float) -> None:
        self._in_use = dict(in_use)
        self._delay_s = delay_s
        self._check_every_s = check_every_s
        self._seen = dict(in_use)
        self._next_check_s = 0.0
        self._restart_s: float | None = None
        self.problem: str | None = None
        """The reason why the changed secrets cannot be used; None if there is none."""

    @property
    def changed(self) -> list[str]:
        """The variables whose files are not as the process has started with."""
        names = {**self._in_use, **self._seen}
        return [name for name in names if self._in_use.get(name) != self._seen.get(name)]

    def look(self, found: Digests, now_s: float) -> Action:
        """Take in what the files are now."""
        if found != self._seen:
            self._seen, self._restart_s, self._next_check_s = dict(found), None, now_s
            return Action.WAIT
        if found == self._in_use:
            self.problem = None
            return Action.WAIT
        if self._restart_s is not None:
            return Action.RESTART if now_s >= self._restart_s else Action.WAIT
        return Action.CHECK if now_s >= self._next_check_s else Action.WAIT

    def checked(self, problem: str | None, now_s: float) -> None:
        """Take in the result of a check; None if the secrets can be used."""
        self.problem = problem
        self._next_check_s = now_s + self._check_every_s
        self._restart_s = now_s + self._delay_s if problem is None else None

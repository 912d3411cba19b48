"""The log of an outage of another server: at once, then at a calm rhythm, and when it is over."""

import threading
import time

import structlog

_log = structlog.get_logger()
_LOG_EVERY_S = 30.0


class Outage:
    """An outage as it is logged. Safe to use from any thread.

    Args:
        event: Logged while it lasts.
        over: Logged at its end.
    """

    def __init__(self, event: str, over: str = "Kafka answers") -> None:
        self._event = event
        self._over = over
        self._lock = threading.Lock()
        self._since_s: float | None = None
        self._logged_s = 0.0

    def lasts(self, reason: str) -> None:
        """Note that the server is away at this moment."""
        now_s = time.monotonic()
        with self._lock:
            if self._since_s is None:
                self._since_s = now_s
            elif now_s - self._logged_s < _LOG_EVERY_S:
                return
            self._logged_s = now_s
            waited_s = now_s - self._since_s
        _log.warning(self._event, reason=reason, waited_s=round(waited_s))

    def is_over(self) -> None:
        """Note that the server is there."""
        with self._lock:
            since_s, self._since_s = self._since_s, None
        if since_s is not None:
            _log.info(self._over, waited_s=round(time.monotonic() - since_s, 3))

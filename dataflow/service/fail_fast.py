"""The end of a process: on the spot if a step raises, and in every case without native clean-up.

1. A panic in a cluster of several processes loses the Python traceback, so the cause is logged
   where it is raised, once. In a process launched by `python -m bytewax.run` the process then ends
   on the spot: nothing uncommitted is visible, and the engine's own way down can hang when other
   workers wait for this one.
2. A process that ends in order runs what Python has to run at its end, and then leaves. The native
   libraries clean up after that; but threads of Kafka's clients still use OpenSSL while it frees
   what they use (seen: a segmentation fault after a stop in order).
"""

import atexit
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import NoReturn, ParamSpec, TypeVar

import structlog

from dataflow.errors import Fault, StartRefusedError

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = structlog.get_logger()
_once = threading.Lock()
_end_process = False
_exit_code: int | None = None
"""The code of an end in order, where that is known."""


def _nothing() -> str | None:
    return None


_suspect: Callable[[], str | None] = _nothing


def end_process_on_fault(suspect: Callable[[], str | None] = _nothing) -> None:
    """End the process with exit code 1 on a fault in any thread, from now on.

    Args:
        suspect: What may be behind an error that is not one of our faults, if anything can be seen.
            In a cluster, all that the engine raises is that one of its threads has panicked.
    """
    global _end_process, _exit_code, _suspect  # there is one process to end
    # All that is uncaught from now on ends the process by itself.
    _end_process, _exit_code, _suspect = True, 0, suspect
    sys.excepthook = _on_uncaught


def skip_native_cleanup() -> None:
    """Have the process leave once Python is done; to be called before all that Python has to do."""
    atexit.register(_leave_in_order)


def refuse_to_start() -> NoReturn:
    """End the process in order, with exit code 1."""
    global _exit_code  # noqa: PLW0603  (there is one process to end)
    _exit_code = 1
    sys.exit(1)


def fail_fast(call: Callable[_P, _R]) -> Callable[_P, _R]:
    """Wrap what the engine calls: log what it raises, then end the process or raise on."""

    @wraps(call)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return call(*args, **kwargs)
        except StopIteration:
            raise
        except Exception as error:
            if _end_process:
                _report(error)
                _end()
            raise

    return guarded


def _report(error: BaseException) -> None:
    # Never released: the first fault is the cause, and others wait here for the end.
    _once.acquire()
    if isinstance(error, StartRefusedError):
        _log.critical("refused to start", reason=str(error))
    elif isinstance(error, Fault):
        _log.critical("fault", kind=type(error).__name__, reason=str(error))
    else:
        hint = _suspect()
        reason = f"{error}; {hint}" if hint else str(error)
        _log.critical("fault", kind=type(error).__name__, reason=reason, exc_info=error)


def _on_uncaught(
    _kind: type[BaseException], error: BaseException, _traceback: TracebackType | None
) -> None:
    """Log what the engine itself raises, such as a recovery store that cannot be written."""
    _report(error)
    _end()


def _end() -> None:
    _leave(1)


def _leave_in_order() -> None:
    if _exit_code is not None:
        _leave(_exit_code)


def _leave(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)

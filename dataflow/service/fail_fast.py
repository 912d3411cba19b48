"""The end of a process in which a step raises: the cause is logged once.

A panic in a cluster of several processes loses the Python traceback, so it is logged where it is
raised. In a process launched by `python -m bytewax.run` the process then ends on the spot: nothing
uncommitted is visible, and the engine's own way down can hang when other workers wait for this one.
"""

import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

import structlog

from dataflow.errors import Fault, StartRefusedError

_P = ParamSpec("_P")
_R = TypeVar("_R")

_log = structlog.get_logger()
_once = threading.Lock()
_end_process = False


def _nothing() -> str | None:
    return None


_suspect: Callable[[], str | None] = _nothing


def end_process_on_fault(suspect: Callable[[], str | None] = _nothing) -> None:
    """End the process with exit code 1 on a fault in any thread, from now on.

    Args:
        suspect: What may be behind an error that is not one of our faults, if anything can be seen.
            In a cluster, all that the engine raises is that one of its threads has panicked.
    """
    global _end_process, _suspect  # there is one process to end
    _end_process, _suspect = True, suspect
    sys.excepthook = _on_uncaught


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
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)

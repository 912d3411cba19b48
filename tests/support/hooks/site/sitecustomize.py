"""Loaded by the flow's interpreter in tests: ends it at a named point, or breaks it on purpose.

`CRASH_AT=<point>:<n>` kills the process with SIGKILL when it passes the point for the n-th time;
with `CRASH_BY`, it is another signal, or an `exception`. It writes a line to the file `CRASH_MARK`
first, if there is one: proof that it was there.
`BREAK=<name>` removes one guarantee, to prove that a test would notice.
`TUNE=<module>:<name>=<number>` sets a constant of `tuning.py`, so that a test need not wait for
long; several of them are separated by commas.
`STOP_FETCHING=<file>` makes the clients of all partitions fetch nothing any more once the file
exists, without an error; each has then made `<file>.<partition>`.
`CLOCK_AHEAD=<file>` sets the clock of the Python code so many seconds ahead as are in the file.
"""

import gc
import os
import sys
import time
from pathlib import Path

# As in the image, which has none of the tests' packages: if this one is there, `structlog` imports
# it, and that is a tenth of the work of a start.
sys.modules["rich"] = None  # type: ignore[assignment]
# What is imported lives for ever. To look for garbage in it over and over takes a tenth of a start.
gc.set_threshold(10_000)

if clock_ahead := os.environ.get("CLOCK_AHEAD"):
    now, ahead = time.time, Path(clock_ahead)
    # Before anything is imported that takes it as it is.
    time.time = lambda: now() + float(ahead.read_text() or 0)

wanted = [os.environ.get(name, "") for name in ("CRASH_AT", "BREAK", "TUNE", "STOP_FETCHING")]
if any(wanted) or clock_ahead:
    from tests.support.hooks import crash_hooks

    crash_hooks.install(*wanted)
    if clock_ahead:
        crash_hooks.wake_by_the_engine(ahead)

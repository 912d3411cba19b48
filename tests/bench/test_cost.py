"""The guard of the product's speed: what a payment costs, counted, not timed.

Two counts that do not depend on how busy the machine is. Calls of functions, Python's and C's, are
the same in every run: one more for each record is seen at once. Instructions see what calls hide,
such as a slower library or a larger copy; they are compared with those of a minimal loop over the
same bytes, so that another build of Python moves both.

Where a change makes the product faster, lower the limits with it; where it must be slower, raise
them in the same commit, with the reason.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from dataflow.core.items import RecordBatch
from schemas import events
from tests import ROOT
from tests.bench import pipeline

CALLS = 48.6 if sys.version_info < (3, 12) else 47.9
"""Most calls for a payment. Python 3.12 does without those of comprehensions."""
MINIMAL = 4
"""The runs of the minimal loop: it takes as long as the product."""
RATIO = 3.85
"""Most instructions for a payment, as a multiple of the minimal loop's."""


def calls(work: Callable[[RecordBatch], object], batch: RecordBatch) -> int:
    """Return how many functions are called to do the work."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        work(batch)
    finally:
        sys.setprofile(None)
    return count


def calls_per_payment() -> float:
    """Return the calls of a batch of the usual size, so that its fixed costs hardly count."""
    work = pipeline.Pipeline().run
    warm, batch = pipeline.batches(2)
    work(warm)
    return calls(work, batch) / pipeline.BATCH


def instructions(*runs: str) -> list[int]:
    """Return the instructions of each run, and of the start of Python, which they share.

    They are forked from one process: to start it takes most of the time, and differs a little.
    """
    # A fork has no other threads.
    environ = {"PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    tool = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command = [*tool, sys.executable, "-m", "tests.bench.pipeline", *runs]
    done = subprocess.run(
        command, env=os.environ | environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    counted = dict(re.findall(r"^==(\d+)== I +refs: +([\d,]+)$", done.stderr, re.MULTILINE))
    return [int(counted[process].replace(",", "")) for process in done.stdout.split()]


def test_calls_for_each_payment() -> None:
    counted = calls_per_payment()
    assert counted <= CALLS, f"{counted:.2f} calls for a payment, at most {CALLS} are allowed"


def test_one_more_call_for_each_payment_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as a look at the clock in the encoder: the limit is as close as that."""
    encode = events.encode
    monkeypatch.setattr(events, "encode", lambda event: (time.time(), encode(event))[1])
    assert calls_per_payment() > CALLS


@pytest.mark.timeout(600)  # some seconds, unless the machine is very busy
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind counts the instructions")
def test_instructions_for_each_payment() -> None:
    nothing, product, least = instructions("product:0", "product:1", f"reference:{MINIMAL}")
    ratio = MINIMAL * (product - nothing) / (least - nothing)
    each = (product - nothing) / (pipeline.PREPARED * pipeline.BATCH)
    assert ratio <= RATIO, (
        f"{each:,.0f} instructions for a payment, {ratio:.2f} times those of the minimal loop; at"
        f" most {RATIO} times are allowed"
    )

"""The end of a process in order: Python has its part of it, native libraries have none."""

import subprocess
import sys

import pytest

ENDS = """
import atexit, ctypes
from dataflow.service import fail_fast

libc = ctypes.CDLL(None)
libc.strdup.restype = ctypes.c_void_p
text = ctypes.c_void_p(libc.strdup(b"native cleanup"))
libc.__cxa_atexit(ctypes.cast(libc.puts, ctypes.c_void_p), text, None)
fail_fast.skip_native_cleanup()
atexit.register(print, "ours")
{end}
"""


def ends(end: str) -> tuple[int, list[str]]:
    """Return the exit code of a process with this end, and what its clean-up has printed."""
    done = subprocess.run(
        [sys.executable, "-c", ENDS.format(end=end)], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


@pytest.mark.parametrize(
    ("end", "code"),
    [("fail_fast.end_process_on_fault()", 0), ("fail_fast.refuse_to_start()", 1)],
    ids=["a stop", "a refusal"],
)
def test_native_libraries_do_not_clean_up_at_an_end_in_order(end: str, code: int) -> None:
    """Threads of Kafka's clients may still use them."""
    assert ends(end) == (code, ["ours"])


def test_an_error_before_the_flow_is_there_keeps_its_exit_code() -> None:
    code, printed = ends("raise RuntimeError")
    assert (code, printed) == (1, ["ours", "native cleanup"])

"""The first use of something by several threads at once, over and over, each time in a new process.

A crash of an extension module ends the process, so the tests do this in others.
"""

import subprocess
import sys

_SCRIPT = """
import os, sys, threading
{setup}
sys.setswitchinterval(1e-6)
for _ in range(50):
    if os.fork() == 0:  # each time it is the first time
        begin = threading.Barrier(6)
        def work():
            begin.wait()
            {call}
        workers = [threading.Thread(target=work) for _ in range(6)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        os._exit(0)
    assert os.wait()[1] == 0, "crashed"
"""


def assert_safe(setup: str, call: str) -> None:
    """Run `call` in several threads that use it for the first time.

    Args:
        setup: Lines that are run before.
        call: One expression.
    """
    script = _SCRIPT.format(setup=setup, call=call)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr

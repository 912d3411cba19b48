"""One JVM as a child that cannot outlive this process, not even when that is killed."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Linux sends the death signal when the *thread* that started the child ends, so all are started
# by one thread that lives as long as the process: a test may restart a broker from any thread.
_SPAWNER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kafkatest-spawner")

# Asks for the death signal, then becomes the JVM. A program of its own, since `preexec_fn` is
# unsafe (and from Python 3.12 on warned about) in a process with threads.
_LAUNCHER = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
    raise OSError(ctypes.get_errno(), "prctl")
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent died first")
os.execv(sys.argv[2], sys.argv[2:])
"""


class Jvm:
    """A running (or dead) JVM."""

    def __init__(self, command: Sequence[str], output: Path) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
        self._process = _SPAWNER.submit(_spawn, launcher, output).result()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs (or is stopped by a signal)."""
        return self._process.poll()

    def send(self, signum: signal.Signals) -> None:
        """Send a signal; to a dead JVM, nothing."""
        self._process.send_signal(signum)

    def terminate(self, grace_s: float) -> None:
        """Ask it to end, and kill it when it has not after `grace_s`."""
        self.send(signal.SIGCONT)  # a stopped process would never see the request
        self.send(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Kill it, and return when it is gone."""
        self._process.kill()
        self._process.wait()


def _spawn(command: Sequence[str], output: Path) -> subprocess.Popen[bytes]:
    with output.open("ab") as out:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the parent, which then stops the broker in order. Not a session: Linux
            # shares processor time between sessions first (autogroup), and a broker that is one of
            # many sessions waits for seconds while the flows of the tests spin.
            process_group=0,
        )

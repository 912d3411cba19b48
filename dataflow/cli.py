"""`payments`, or `python -m dataflow`: everything around the flow that is a command.

The flow itself is run by Bytewax: `python -m bytewax.run dataflow.flow`.

A new command is one line in `COMMANDS`, and one module with a `main` that takes the arguments and
the environment, and returns the exit code. Only the module of the command that was given is
imported: a health check must cost next to nothing.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NamedTuple

from dataflow import __version__


class Command(NamedTuple):
    """One command."""

    module: str
    """The module that its `main` is in."""
    summary: str


COMMANDS = {
    "demo": Command(
        "dataflow.demo.command", "show the flow at work, on an embedded broker or on yours"
    ),
    "verify": Command(
        "dataflow.verify.command", "check that every request of a cluster was decided exactly once"
    ),
    "pending": Command(
        "dataflow.pending_tools.list_command", "list the payments that wait for the gateway"
    ),
    "reconcile": Command(
        "dataflow.reconcile.command", "compare the provider's list with what was published"
    ),
    "rebuild-log": Command(
        "dataflow.rebuild_log.command", "make a lost lane log again from what was published"
    ),
    "redrive": Command(
        "dataflow.redrive.command", "send failed payments again that may succeed on another try"
    ),
    "resolve": Command(
        "dataflow.pending_tools.resolve_command", "decide a payment that needs a person"
    ),
    "scale": Command(
        "dataflow.scaling.command", "calculate lanes, partitions and processes for a load"
    ),
    "gateway-check": Command(
        "dataflow.gateway_check.command", "check which guarantees a payment provider gives"
    ),
    "schemas": Command(
        "dataflow.schema_registry.command", "register the schemas of the events, or check them"
    ),
    "healthcheck": Command(
        "dataflow.web.healthcheck", "ask the process of this machine whether it is alive"
    ),
}
_WRONG_USE = 2
_EPILOG = """\
examples:
  payments demo
  payments verify --running
  payments pending --unresolved
  payments scale --rate 5000 --window 1d --latency 2s
  payments verify --help

exit code: 0 when the answer is good, 1 when it is not, 2 for a wrong argument or when the command
cannot run here; `payments COMMAND --help` has the details. The flow itself is run by
`python -m bytewax.run dataflow.flow`.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; returns the exit code."""
    given = sys.argv[1:] if argv is None else argv
    parser = _parser()
    name = str(parser.parse_args(given[:1]).command)
    if problem := refusal(sys.version_info[:2]):
        parser.exit(_WRONG_USE, f"payments {name}: {problem}\n")
    try:
        command = import_module(COMMANDS[name].module)
    except ModuleNotFoundError as error:
        # The image, for one, has no demo.
        if not COMMANDS[name].module.startswith(error.name or "-"):
            raise
        parser.exit(_WRONG_USE, f"payments {name}: is not part of this installation\n")
    return int(command.main(given[1:], os.environ))


def refusal(version: tuple[int, int]) -> str | None:
    """Return why nothing can run on this version of Python; None when it can.

    Called before anything else is imported: on another version the dependencies are not installed.
    """
    if (3, 11) <= version <= (3, 12):
        return None
    return (
        f"Python {version[0]}.{version[1]} cannot run it: use Python 3.11 or 3.12. Bytewax, which"
        " the flow is built on, has no wheels for 3.13 or newer."
    )


def _parser() -> argparse.ArgumentParser:
    summaries = "\n".join(f"  {name:<14} {each.summary}" for name, each in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="payments",
        usage="payments [-h] [--version] COMMAND ...",
        description=f"Exactly-once payments stream processor.\n\ncommands:\n{summaries}",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"payments {__version__}")
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND", help=argparse.SUPPRESS)
    return parser

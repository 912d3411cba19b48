"""Values on the command line, each with an error that names what was expected."""

import argparse
from datetime import UTC, datetime
from typing import Any

from dataflow.config import values
from dataflow.config.values import ValueKind


def duration_s(text: str) -> float:
    """Return a duration in seconds."""
    return float(_parsed(values.duration_s("0ms", "3660d"), text))


def whole_number(text: str) -> int:
    """Return a whole number that is more than 0."""
    return int(_parsed(values.whole_number(1, 1_000_000_000), text))


def instant_s(text: str) -> float:
    """Return an instant, or a day in UTC, in seconds since 1970."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        expected = "a day or an instant, such as 2026-01-31 or 2026-01-31T09:30:00Z"
        raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}") from None
    # Without an offset it is UTC, as in the events: not the time of the machine it runs on.
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def parser(command: str, description: str, epilog: str) -> argparse.ArgumentParser:
    """Return the parser of a command of `payments`, whose texts are printed as they are written."""
    return argparse.ArgumentParser(
        prog=f"payments {command}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_timeout(parser: argparse.ArgumentParser) -> None:
    """Add `--timeout`, which all tools that read topics have."""
    parser.add_argument(
        "--timeout",
        type=duration_s,
        metavar="DURATION",
        help="wait so long for an open transaction to end (default: KAFKA_TRANSACTION_TIMEOUT"
        " plus 10s)",
    )


def _parsed(kind: ValueKind, text: str) -> Any:
    try:
        return kind.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {kind.expects}, got {text!r}") from None

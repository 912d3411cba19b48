"""`python -m dataflow.demo`."""

import sys


def refusal(version: tuple[int, int]) -> str | None:
    """Why the demo cannot run on this version of Python; None when it can."""
    if (3, 11) <= version <= (3, 12):
        return None
    return (
        f"Python {version[0]}.{version[1]} cannot run the demo: use Python 3.11 or 3.12."
        " Bytewax, which the flow is built on, has no wheels for 3.13 or newer."
    )


if __name__ == "__main__":
    if problem := refusal(sys.version_info[:2]):
        sys.exit(problem)
    # Only now: on another version the dependencies are not even installed.
    from dataflow.demo.command import main

    sys.exit(main())

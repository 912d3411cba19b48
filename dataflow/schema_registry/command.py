"""`payments schemas`: the command, without the packages that it needs: they may be missing."""

import sys
from collections.abc import Mapping, Sequence

from dataflow.errors import SettingsError
from dataflow.schema_registry import extra

_NOT_TRIED = 2


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run `registration.main`, or print which package it lacks."""
    try:
        registration = extra.load("registration")
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return _NOT_TRIED
    return int(registration.main(argv, environ))

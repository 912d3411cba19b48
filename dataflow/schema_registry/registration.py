"""`payments schemas`: our schemas in the schema registry, looked at and registered."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing

from dataflow.config.settings import Settings
from dataflow.errors import SettingsError
from dataflow.observability import logs
from dataflow.schema_registry import subjects
from dataflow.schema_registry.client import (
    TOOL_TIMEOUT_S,
    Registry,
    RegistryAwayError,
    RegistryRefusedError,
)
from dataflow.schema_registry.subjects import Found, OutputSchema, State

DONE, NOT_DONE, NOT_TRIED = 0, 1, 2
"""Exit codes."""
_DESCRIPTION = """\
Register the schemas of the events, or check that they are registered. Where the registry is, and
the names of the topics, is taken from the environment, as for the flow itself; so is the format,
unless KAFKA_VALUE_FORMAT is json. The subject of a topic is its name with -value. The flow itself
registers nothing, and does not start without its schemas.
"""
_EPILOG = """\
examples:
  payments schemas check                      is everything registered?
  payments schemas register --dry-run         what would be registered?
  payments schemas register                   before an upgrade of the service
  payments schemas register --with-requests   also a schema for senders of requests

exit code: 0 when everything is registered (or with --dry-run, could be), 1 when not, 2 when the
registry does not answer, or a setting is wrong
"""


def main(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print a line for each subject, and return the exit code."""
    given = _arguments(argv)
    logs.configure("error")
    try:
        settings = _settings(environ)
        with closing(Registry(settings.schema_registry, TOOL_TIMEOUT_S)) as registry:
            registry.probe()
            done = [_settle(registry, each, given) for each in _schemas(settings, given)]
    except (SettingsError, RegistryRefusedError) as error:
        print(error, file=sys.stderr)
        return NOT_TRIED
    except RegistryAwayError as away:
        print(f"SCHEMA_REGISTRY_URL: the schema registry is away: {away}", file=sys.stderr)
        return NOT_TRIED
    return DONE if all(done) else NOT_DONE


def _settings(environ: Mapping[str, str]) -> Settings:
    # It charges nobody, so the choice that only the user can make is not asked for here.
    settings = Settings.from_env({"GATEWAY": "simulated", **environ})
    if settings.schema_registry.url is None:
        example = "example: SCHEMA_REGISTRY_URL=https://registry.example.com"
        raise SettingsError([f"SCHEMA_REGISTRY_URL: required; {example}"])
    return settings


def _schemas(settings: Settings, given: argparse.Namespace) -> list[OutputSchema]:
    value_format = settings.kafka.value_format
    if value_format == subjects.JSON:
        value_format = subjects.AVRO
    value_format = given.format or value_format
    schemas = subjects.of_outputs(settings.kafka, value_format)
    if given.with_requests:
        schemas.append(subjects.of_requests(settings.kafka, value_format))
    return schemas


def _settle(registry: Registry, schema: OutputSchema, given: argparse.Namespace) -> bool:
    """Do what is asked for with one schema, print it, and return whether all is well."""
    found = subjects.look(registry, schema)
    name = f"{schema.subject} ({schema.kind})"
    if found.state is State.REGISTERED:
        print(f"{name}: registered, schema id {found.schema_id}")
        return True
    if found.state is State.INCOMPATIBLE:
        print(f"{name}: not compatible\n  {subjects.incompatible(found)}")
        return False
    if given.command == "check":
        print(f"{name}: not registered\n  {subjects.problem(found)}")
        return False
    if given.dry_run:
        print(f"{name}: would be registered")
        return True
    return _register(registry, found, name)


def _register(registry: Registry, found: Found, name: str) -> bool:
    try:
        schema_id = subjects.register(registry, found)
    except RegistryRefusedError as refused:
        print(f"{name}: the registry refused it: {refused}")
        return False
    print(f"{name}: registered now, schema id {schema_id}")
    return True


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="payments schemas",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("check", "register"))
    parser.add_argument(
        "--format",
        choices=(subjects.AVRO, subjects.JSON_REGISTRY),
        help="default: KAFKA_VALUE_FORMAT, or avro",
    )
    parser.add_argument("--dry-run", action="store_true", help="register nothing")
    parser.add_argument(
        "--with-requests", action="store_true", help="the schema of requests as well"
    )
    return parser.parse_args(argv)

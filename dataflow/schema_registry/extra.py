"""The modules that need the packages of the extra `registry`: imported only if they are needed."""

from importlib import import_module
from typing import Any

from dataflow.errors import SettingsError


def load(name: str) -> Any:
    """Return a module of this folder.

    Raises:
        SettingsError: a package of the extra is not installed.
    """
    try:
        return import_module(f"dataflow.schema_registry.{name}")
    except ModuleNotFoundError as error:
        problem = (
            f"SCHEMA_REGISTRY_URL: the package {error.name} is not installed; install"
            " payments-dataflow[registry]"
        )
        raise SettingsError([problem]) from error

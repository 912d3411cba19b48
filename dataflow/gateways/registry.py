"""The payment gateways, by the name that `GATEWAY` selects them with.

A gateway of another package is named by its class, as `package.module:Class`; it is called without
arguments. A gateway of ours is one module with a class that fits `port.Gateway` and a `build`, one
name in `dataflow.config.gateway_names`, and one line in `_BUILDERS`. Both have a subclass of the
contract in `tests/gateways/contract.py`.
"""

import importlib

from dataflow.config.gateway_names import HTTP, SIMULATED, STRIPE
from dataflow.config.settings import GatewaySettings
from dataflow.errors import SettingsError
from dataflow.gateways.port import KEY_LENGTH, Gateway, Traits
from dataflow.gateways.replies import quoted

_BUILDERS = {
    SIMULATED: "dataflow.gateways.simulated",
    HTTP: "dataflow.gateways.http_settings",
    STRIPE: "dataflow.gateways.stripe",
}
"""The module whose `build` makes a gateway of its settings. Only the one that is chosen is
imported: an HTTP client costs every start time and memory."""


def create(settings: GatewaySettings) -> Gateway:
    """Build the gateway of that name, which opens nothing yet.

    Raises:
        SettingsError: There is none, it does not fit the port, or its own settings are wrong.
    """
    if settings.name not in _BUILDERS:
        return _foreign(settings.name)
    module = importlib.import_module(_BUILDERS[settings.name])
    try:
        gateway: Gateway = module.build(settings)
    except ValueError as err:
        raise SettingsError([f"GATEWAY={settings.name}: {err}"]) from err
    return gateway


def _foreign(name: str) -> Gateway:
    """Build a gateway of another package: `package.module:Class`."""
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as err:  # whatever a foreign module does when it is imported
        raise _wrong(f"module {module_name} cannot be imported: {quoted(err)}") from err
    build = getattr(module, class_name, None)
    if not callable(build):
        raise _wrong(f"module {module_name} has no class {class_name}")
    try:
        gateway = build()
    except Exception as err:
        raise _wrong(f"{name} cannot be built: {quoted(err)}") from err
    _check(name, gateway)
    return gateway  # type: ignore[no-any-return]


def _check(name: str, gateway: object) -> None:
    if not isinstance(gateway, Gateway):
        parts = ("traits", "charge", "lookup", "probe", "close")
        lacking = ", ".join(part for part in parts if not hasattr(gateway, part))
        raise _wrong(f"{name} does not fit dataflow.gateways.port.Gateway: it lacks {lacking}")
    traits = gateway.traits
    if not isinstance(traits, Traits):
        raise _wrong(f"{name} does not fit dataflow.gateways.port.Gateway: traits is no Traits")
    if traits.longest_key < KEY_LENGTH:
        raise _wrong(
            f"{name} takes keys of {traits.longest_key} characters; ours have {KEY_LENGTH}"
        )


def _wrong(problem: str) -> SettingsError:
    return SettingsError(
        [f"GATEWAY: {problem}; example: GATEWAY=your_package.your_module:YourGateway"]
    )

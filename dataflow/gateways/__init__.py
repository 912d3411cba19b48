"""The payment gateways, by the name that `GATEWAY` selects them with.

A new provider is one module with a class that fits `port.Gateway`, one line in `_BUILDERS`, and
one subclass of the contract in `tests/gateways/contract.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from dataflow.gateways.port import Gateway
from dataflow.gateways.simulated import SimulatedGateway

if TYPE_CHECKING:  # settings check GATEWAY against NAMES, so they import this module
    from dataflow.settings import GatewaySettings


def _simulated(settings: "GatewaySettings") -> Gateway:
    return SimulatedGateway(
        decline_rate=settings.simulated_decline_rate,
        latency_s=settings.simulated_latency_s,
        concurrency=settings.concurrency,
    )


SIMULATED = "simulated"
"""The one that approves payments and charges nobody: wherever it is in use, that is shown."""

_BUILDERS: dict[str, Callable[["GatewaySettings"], Gateway]] = {
    SIMULATED: _simulated,
}

NAMES = tuple(sorted(_BUILDERS))
"""What `GATEWAY` may be."""


def create(settings: "GatewaySettings") -> Gateway:
    """Build the gateway of that name; `KeyError` for a name that is not in `NAMES`."""
    return _BUILDERS[settings.name](settings)

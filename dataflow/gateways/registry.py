"""The payment gateways, by the name that `GATEWAY` selects them with.

A new provider is one module with a class that fits `port.Gateway`, one name in
`dataflow.config.gateway_names`, one line in `_BUILDERS`, and one subclass of the contract in
`tests/gateways/contract.py`.
"""

from collections.abc import Callable

from dataflow.config.gateway_names import SIMULATED
from dataflow.config.settings import GatewaySettings
from dataflow.gateways.port import Gateway
from dataflow.gateways.simulated import SimulatedGateway


def _simulated(settings: GatewaySettings) -> Gateway:
    return SimulatedGateway(
        decline_rate=settings.simulated_decline_rate,
        latency_s=settings.simulated_latency_s,
        concurrency=settings.concurrency,
    )


_BUILDERS: dict[str, Callable[[GatewaySettings], Gateway]] = {
    SIMULATED: _simulated,
}


def create(settings: GatewaySettings) -> Gateway:
    """Build the gateway of that name; `KeyError` for a name that is not in `NAMES`."""
    return _BUILDERS[settings.name](settings)

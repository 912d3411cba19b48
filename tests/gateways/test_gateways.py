"""The selection of a gateway by `GATEWAY`."""

from required import REQUIRED

from dataflow.config import gateway_names
from dataflow.config.settings import GatewaySettings, Settings
from dataflow.gateways import registry
from dataflow.gateways.simulated import SimulatedGateway


def gateway_settings(**environ: str) -> GatewaySettings:
    return Settings.from_env(REQUIRED | environ).gateway


def test_every_name_builds_a_gateway() -> None:
    for name in gateway_names.NAMES:
        gateway = registry.create(gateway_settings(GATEWAY=name))
        assert callable(gateway.charge)
        assert callable(gateway.close)


def test_the_simulated_gateway_is_built_as_configured() -> None:
    gateway = registry.create(
        gateway_settings(
            SIMULATED_DECLINE_RATE="0.5", SIMULATED_LATENCY="20ms", GATEWAY_CONCURRENCY="7"
        )
    )
    assert isinstance(gateway, SimulatedGateway)
    assert gateway.decline_rate == 0.5
    assert gateway.latency_s == 0.02
    assert gateway.concurrency == 7

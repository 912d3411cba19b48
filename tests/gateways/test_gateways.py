"""How `GATEWAY` selects a gateway."""

from required import REQUIRED

from dataflow import gateways
from dataflow.gateways.simulated import SimulatedGateway
from dataflow.settings import GatewaySettings, Settings


def gateway_settings(**environ: str) -> GatewaySettings:
    return Settings.from_env(REQUIRED | environ).gateway


def test_every_name_builds_a_gateway() -> None:
    for name in gateways.NAMES:
        gateway = gateways.create(gateway_settings(GATEWAY=name))
        assert callable(gateway.charge)
        assert callable(gateway.close)


def test_the_simulated_gateway_is_built_as_configured() -> None:
    gateway = gateways.create(
        gateway_settings(
            SIMULATED_DECLINE_RATE="0.5", SIMULATED_LATENCY="20ms", GATEWAY_CONCURRENCY="7"
        )
    )
    assert isinstance(gateway, SimulatedGateway)
    assert gateway.decline_rate == 0.5
    assert gateway.latency_s == 0.02
    assert gateway.concurrency == 7

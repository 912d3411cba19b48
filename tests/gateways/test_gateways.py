"""The selection of a gateway by `GATEWAY`: one of ours, or the class of another package."""

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest
from cryptography.hazmat.primitives import serialization

from dataflow.config import gateway_names
from dataflow.config.settings import GatewaySettings, Settings
from dataflow.errors import SettingsError
from dataflow.gateways import mapping, registry
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.port import Approved, BatchGateway, Gateway, idempotency_key
from dataflow.gateways.simulated import SimulatedGateway
from tests.gateways.sample_requests import make_requests
from tests.support.kafka import certificates
from tests.support.required import REQUIRED

OURS = {
    gateway_names.SIMULATED: dict[str, str](),
    gateway_names.HTTP: {"HTTP_GATEWAY_URL": "https://provider.example.com/api/"},
    gateway_names.STRIPE: {"STRIPE_API_KEY": "sk_test_1"},
}
"""The variables that each gateway needs."""


def gateway_settings(**environ: str) -> GatewaySettings:
    return Settings.from_env(REQUIRED | environ).gateway


def problem(**environ: str) -> str:
    with pytest.raises(SettingsError) as caught:
        registry.create(gateway_settings(**environ))
    (text,) = caught.value.problems
    return text


def test_every_name_builds_a_gateway() -> None:
    assert set(OURS) == set(gateway_names.NAMES)
    for name, needed in OURS.items():
        assert isinstance(registry.create(gateway_settings(GATEWAY=name, **needed)), Gateway)


def test_the_simulated_gateway_is_built_as_configured() -> None:
    gateway = registry.create(
        gateway_settings(SIMULATED_DECLINE_RATE="0.5", SIMULATED_LATENCY="20ms")
    )
    assert isinstance(gateway, SimulatedGateway)
    assert gateway.decline_rate == 0.5
    assert gateway.latency_s == 0.02


def test_only_the_gateway_that_is_chosen_is_imported() -> None:
    """An HTTP client would take up half of a start with the simulated one."""
    code = (
        "import sys; from dataflow.gateways import registry; "
        "from dataflow.config.settings import Settings; "
        f"registry.create(Settings.from_env({REQUIRED!r}).gateway); "
        "assert 'dataflow.gateways.simulated' in sys.modules; assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def http(**environ: str) -> dict[str, str]:
    return {"GATEWAY": "http", **OURS["http"], **environ}


def test_a_mapping_comes_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text(mapping.CONTRACT + "[key]\nlife_hours = 72\n")
    gateway = registry.create(gateway_settings(**http(HTTP_GATEWAY_MAPPING=str(file))))
    assert gateway.traits.key_life_s == 72 * 3600


def test_a_wrong_mapping_stops_the_start_with_its_name(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text(mapping.CONTRACT + "[key]\nlive_hours = 72\n")
    text = problem(**http(HTTP_GATEWAY_MAPPING=str(file)))
    assert text.startswith(f"HTTP_GATEWAY_MAPPING: {file}: ")
    assert "unknown field `live_hours` - at `$.key`" in text


def test_a_basic_login_needs_a_user_and_a_password(tmp_path: Path) -> None:
    file = tmp_path / "provider.toml"
    file.write_text(mapping.CONTRACT + '[auth]\nscheme = "basic"\n')
    chosen = http(HTTP_GATEWAY_MAPPING=str(file), HTTP_GATEWAY_CREDENTIALS="s3cret")
    text = problem(**chosen)
    assert "HTTP_GATEWAY_CREDENTIALS: expected user:password" in text
    assert "s3cret" not in text


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (("HTTP_GATEWAY_CA",), "HTTP_GATEWAY_CA"),
        (("HTTP_GATEWAY_CERTIFICATE", "HTTP_GATEWAY_KEY"), "HTTP_GATEWAY_CERTIFICATE"),
    ],
)
def test_files_that_are_no_certificates_stop_the_start(
    tmp_path: Path, variables: tuple[str, ...], named: str
) -> None:
    file = tmp_path / "file.pem"
    file.write_text("no certificate")
    text = problem(**http(**dict.fromkeys(variables, str(file))))
    assert text.startswith(f"{named}: the PEM files cannot be used")


def test_the_certificates_of_the_settings_are_used(tmp_path: Path) -> None:
    files = certificates.write(tmp_path)
    gateway = registry.create(
        gateway_settings(
            **http(
                HTTP_GATEWAY_CA=str(files.ca),
                HTTP_GATEWAY_CERTIFICATE=str(files.server),
                HTTP_GATEWAY_KEY=str(files.server),
            )
        )
    )
    assert isinstance(gateway, HttpGateway)


@pytest.mark.parametrize(
    "environ",
    [
        {"GATEWAY": "stripe", "STRIPE_API_KEY": "sk_live_a\nb"},
        {
            "GATEWAY": "http",
            "HTTP_GATEWAY_URL": "https://a",
            "HTTP_GATEWAY_CREDENTIALS": "sk_live_ä",
        },
    ],
)
def test_credentials_that_cannot_be_sent_stop_the_start_unseen(environ: dict[str, str]) -> None:
    text = problem(**environ)
    assert text.startswith(f"GATEWAY={environ['GATEWAY']}: the credentials have characters")
    assert "sk_live" not in text


def test_only_a_gateway_that_never_waits_takes_batches() -> None:
    assert isinstance(registry.create(gateway_settings()), BatchGateway)
    slow = registry.create(gateway_settings(SIMULATED_LATENCY="1ms"))
    assert not isinstance(slow, BatchGateway)


@pytest.mark.parametrize("payment_id", ["p", "pay_123", "€" * 255])
def test_a_key_is_a_uuid_of_version_8_that_depends_on_the_payment_id_alone(payment_id: str) -> None:
    key = idempotency_key(payment_id)
    assert UUID(key).version == 8
    assert UUID(key).variant == RFC_4122
    assert str(UUID(key)) == key
    assert len(key) == 36
    assert idempotency_key(payment_id) == key != idempotency_key(payment_id + " ")


def test_a_known_payment_has_a_known_key() -> None:
    """Pinned: with another key, a payment under way at an upgrade would be charged twice."""
    assert idempotency_key("pay_123") == "4cfcc851-5ee0-84df-828f-99a9f426db7d"


# ---- a gateway of another package ----

Written = Callable[[str], str]
FITTING = """
from dataflow.gateways.port import Approved, Gateway, Traits

class Acme(Gateway):
    traits = Traits(key_life_s=86400, saves_errors=True, has_lookup=False)

    async def charge(self, request, key):
        return Approved(key)
"""


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    """Return a function that writes a module, and returns its name."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(source: str) -> str:
        package = tmp_path / "acme"
        package.mkdir()
        (package / "__init__.py").touch()
        name = f"gateway_{tmp_path.name.replace('-', '_')}"
        (package / f"{name}.py").write_text(source)
        return f"acme.{name}"

    yield write
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme"]:
        del sys.modules[name]


def test_a_class_of_another_package_is_a_gateway(written: Written) -> None:
    gateway = registry.create(gateway_settings(GATEWAY=f"{written(FITTING)}:Acme"))
    (request,) = make_requests(1)
    assert asyncio.run(gateway.charge(request, "key")) == Approved("key")
    assert asyncio.run(gateway.probe()) is None
    asyncio.run(gateway.close())


def test_a_module_that_is_not_there_is_refused() -> None:
    assert problem(GATEWAY="no_such.module:Acme") == (
        "GATEWAY: module no_such.module cannot be imported: ModuleNotFoundError: No module named "
        "'no_such'; example: GATEWAY=your_package.your_module:YourGateway"
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("raise RuntimeError('boom')", "cannot be imported: RuntimeError: boom"),
        ("", "has no class Acme"),
        ("Acme = 7", "has no class Acme"),
        ("class Acme: ...", "it lacks traits, charge, lookup, probe, close"),
        (FITTING + "    charge = property()\n    traits = None", "traits is no Traits"),
        (FITTING.replace("=False)", "=False, longest_key=32)"), "takes keys of 32 characters"),
        (FITTING + "    def __init__(self, key): ...", "cannot be built: TypeError"),
        (
            FITTING + "    def __init__(self): raise ValueError('ACME_KEY: is required')",
            "cannot be built: ValueError: ACME_KEY: is required",
        ),
    ],
)
def test_a_class_that_does_not_work_is_refused(
    written: Written, source: str, expected: str
) -> None:
    text = problem(GATEWAY=f"{written(source)}:Acme")
    assert text.startswith("GATEWAY: ")
    assert expected in text


@pytest.mark.parametrize("name", ["acme", "acme.gateway", ":Acme", "acme:", "acme.:Acme", "a-b:C"])
def test_a_value_that_is_neither_a_name_nor_a_class_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="GATEWAY: expected one of"):
        gateway_settings(GATEWAY=name)


def test_an_encrypted_key_stops_the_start_without_a_prompt(tmp_path: Path) -> None:
    files = certificates.write(tmp_path)
    key = serialization.load_pem_private_key(Path(files.server).read_bytes(), None)
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"s3cret"),
        )
    )
    chosen = http(
        HTTP_GATEWAY_CERTIFICATE=str(files.server), HTTP_GATEWAY_KEY=str(tmp_path / "key.pem")
    )
    assert "the key is encrypted" in problem(**chosen)

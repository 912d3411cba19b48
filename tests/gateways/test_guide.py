"""The examples of docs/gateways.md: a mapping, and a gateway that fulfils the contract."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import yaml
from aiohttp import web

from dataflow.fake_provider.process import FakeProvider
from dataflow.gateways import mapping, registry
from dataflow.gateways.mapping_shape import AmountMapping, HttpMapping, KeyMapping, Rule
from dataflow.gateways.port import Gateway, Reply, Unknown
from tests import ROOT
from tests.deploy.manifests import K8S, read
from tests.gateways.provider_contract import ProviderContract
from tests.gateways.sample_requests import make_request
from tests.gateways.test_gateways import gateway_settings
from tests.gateways.test_http import served

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
GUIDE = (ROOT / "docs" / "gateways.md").read_text()


def shown(name: str) -> str:
    """Return the code between two marks of the guide."""
    [code] = re.findall(rf"<!-- {name} -->\n```\w+\n(.*?)```\n<!-- /{name} -->", GUIDE, re.DOTALL)
    return str(code)


class TestAcme(ProviderContract):
    @pytest.fixture(autouse=True)
    def _module(
        self, provider: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[None]:
        package = tmp_path / "acme"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "gateway.py").write_text(shown("acme"))
        (tmp_path / "key").write_text("sk_test_fake\n")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("ACME_URL", provider.url)
        monkeypatch.setenv("ACME_KEY_FILE", str(tmp_path / "key"))
        yield
        for name in [each for each in sys.modules if each.partition(".")[0] == "acme"]:
            del sys.modules[name]

    def build(self) -> Gateway:
        return registry.create(gateway_settings(GATEWAY="acme.gateway:AcmeGateway"))

    @pytest.mark.parametrize(
        "body", [b'{"status": "\xff"}', b"[" * 100_000, b'{"status": "declined"}']
    )
    def test_an_answer_that_cannot_be_read_is_unknown(
        self, body: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def handler(_request: web.Request) -> web.Response:
            return web.Response(body=body)

        assert isinstance(self.charged_by(handler, monkeypatch), Unknown)

    def test_a_redirect_gets_neither_the_charge_nor_the_credentials(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = []

        async def handler(request: web.Request) -> web.Response:
            paths.append(request.path)
            return web.Response(status=307, headers={"Location": "/elsewhere"})

        assert isinstance(self.charged_by(handler, monkeypatch), Unknown)
        assert paths == ["/v1/payments"]

    def charged_by(self, handler: Handler, monkeypatch: pytest.MonkeyPatch) -> Reply:
        async def life() -> Reply:
            async with served(handler) as url:
                monkeypatch.setenv("ACME_URL", url)
                gateway = self.build()
                reply = await gateway.charge(make_request(), "key")
                await gateway.close()
                return reply

        return asyncio.run(life())


def test_a_provider_of_ones_own_takes_60_lines() -> None:
    code = [line for line in shown("acme").splitlines() if line.strip()]
    assert len(code) <= 62, "the heading promises about 60"


def test_the_mapping_of_the_guide_is_one() -> None:
    shape = mapping.read(shown("mapping"))
    assert shape.key.life_hours == 744
    request = make_request(currency="ISK", amount=7)
    body = shape.body_of(request, "key", shape.units())
    assert body is not None
    assert b'"value":700' in body


def test_every_field_of_a_mapping_is_explained() -> None:
    parts = {
        *HttpMapping.__struct_fields__,
        *Rule.__struct_fields__,
        *KeyMapping.__struct_fields__,
        *AmountMapping.__struct_fields__,
    }
    for name in parts:
        assert re.search(rf"[`\[\n ]{name}\b", GUIDE), name


def test_the_patch_mounts_the_secret_of_the_example() -> None:
    [patch] = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
    pod = yaml.safe_load(patch)["spec"]["template"]["spec"]
    [service] = pod["containers"]
    [secret] = [
        each for each in read(K8S / "examples" / "gateway.yaml") if each["kind"] == "Secret"
    ]
    [volume] = pod["volumes"]
    assert volume["secret"]["secretName"] == secret["metadata"]["name"]
    path = Path(service["env"][1]["value"])
    assert str(path.parent) == service["volumeMounts"][0]["mountPath"]
    assert path.name in secret["stringData"]

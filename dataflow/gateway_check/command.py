"""`payments gateway-check URL`: which of our guarantees hold with a provider."""

import argparse
import asyncio
import json
import sys
import uuid
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import msgspec

from dataflow.config import values
from dataflow.config.secret import Secret
from dataflow.console import arguments
from dataflow.errors import SettingsError
from dataflow.gateway_check.checks import Finding, Provider, play
from dataflow.gateways import mapping
from dataflow.gateways.decimals import to_minor
from dataflow.gateways.http import HttpGateway, credential_headers
from dataflow.gateways.http_settings import tls_context
from dataflow.gateways.mapping_shape import HttpMapping
from schemas import money
from schemas.requests import PaymentRequest

_DESCRIPTION = """\
Charge a few payments at a provider with an HTTP API, disturb them, and report which of the
guarantees hold that the gateway `http` needs. It moves money: use the provider's test mode, or a
payment method of your own. docs/gateways.md explains the mapping.
"""
_EPILOG = """\
examples:
  payments gateway-check https://provider.example.com --credentials-file token --payment-method pm_1
  payments gateway-check https://localhost:8443 --mapping provider.toml --payment-method tok_visa

exit code: 0 when every guarantee that was tried holds, 1 when not, 2 for a wrong argument
"""
_MARKS = {True: "yes", False: "NO ", None: "-  "}


def main(argv: Sequence[str], _environ: Mapping[str, str]) -> int:
    """Print a line for each guarantee; 1 if one of them does not hold."""
    given = _arguments(argv)
    try:
        provider = _provider(given)
    except (SettingsError, ValueError) as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2
    findings = asyncio.run(_play(provider))
    broken = sum(each.holds is False for each in findings)
    print(f"\n{broken} of {len(findings)} guarantees do not hold" if broken else "\nall hold")  # noqa: T201
    return 1 if broken else 0


async def _play(provider: Provider) -> list[Finding]:
    findings = []
    try:
        async for each in play(provider):
            print(f"{_MARKS[each.holds]}  {each.guarantee}  ({each.detail})", flush=True)  # noqa: T201
            findings.append(each)
    finally:
        await provider.gateway.close()
    return findings


def _provider(given: argparse.Namespace) -> Provider:
    tls = tls_context(given.ca, given.certificate, given.key)
    gateway = HttpGateway(
        given.url,
        given.mapping,
        credentials=given.credentials_file,
        timeout_s=given.timeout,
        tls=tls,
    )

    def new_request(payment_id: str = "", more: int = 0) -> PaymentRequest:
        fields = {
            "paymentId": payment_id or f"gateway-check-{uuid.uuid4()}",
            "userId": given.user,
            "amount": str(given.amount + more),
            "currency": given.currency,
            "paymentMethod": given.payment_method,
        }
        return msgspec.json.decode(json.dumps(fields), type=PaymentRequest)

    headers = credential_headers(given.mapping, given.credentials_file)
    return Provider(gateway, given.url, given.mapping, headers, tls, new_request)


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = arguments.parser("gateway-check", _DESCRIPTION, _EPILOG)
    parser.add_argument("url", type=_url, metavar="URL", help="as HTTP_GATEWAY_URL")
    parser.add_argument("--payment-method", required=True, help="what is charged")
    parser.add_argument("--user", default="gateway-check", help="userId; default: %(default)s")
    parser.add_argument("--amount", type=_amount, default=Decimal(1), help="default: %(default)s")
    parser.add_argument("--currency", default="EUR", help="default: %(default)s")
    parser.add_argument("--mapping", type=_mapping, default=mapping.contract(), help="a TOML file")
    parser.add_argument("--credentials-file", type=_secret, help="as HTTP_GATEWAY_CREDENTIALS_FILE")
    parser.add_argument("--ca", help="as HTTP_GATEWAY_CA")
    parser.add_argument("--certificate", help="as HTTP_GATEWAY_CERTIFICATE")
    parser.add_argument("--key", help="as HTTP_GATEWAY_KEY")
    parser.add_argument("--timeout", type=_seconds, default="10s", help="default: %(default)s")
    given = parser.parse_args(argv)
    if given.mapping.units().get(given.currency) is None:
        parser.error(f"--currency: the mapping has no {given.currency}")
    if not all(_is_taken(given, amount) for amount in (given.amount, given.amount + 1)):
        parser.error(f"--amount: the provider takes no {given.amount} {given.currency}")
    return given


def _is_taken(given: argparse.Namespace, amount: Decimal) -> bool:
    """Return whether a payment of that amount is sent: without a call, nothing is checked."""
    broken = money.broken_rule(str(amount).encode(), given.currency)
    return not broken and to_minor(amount, given.currency, given.mapping.units()) is not None


def _url(text: str) -> str:
    return str(_parsed(values.base_url(), text))


def _seconds(text: str) -> float:
    return float(_parsed(values.duration_s("100ms", "80s"), text))


def _parsed(kind: values.ValueKind, text: str) -> Any:
    try:
        return kind.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {kind.expects}, got {text!r}") from None


def _amount(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(0)
    if not (amount.is_finite() and amount > 0):
        raise argparse.ArgumentTypeError(f"expected an amount above 0, got {text!r}")
    return amount


def _mapping(path: str) -> HttpMapping:
    try:
        return mapping.read(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


def _secret(path: str) -> Secret:
    try:
        return Secret(Path(path).read_text(encoding="utf-8").removesuffix("\n"))
    except (OSError, ValueError):
        # Not the path: the likeliest wrong path is the secret itself.
        raise argparse.ArgumentTypeError("the file cannot be read") from None

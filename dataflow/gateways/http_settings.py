"""The gateway `http` as its settings have it: a mapping, credentials, certificates."""

import ssl
from pathlib import Path

from dataflow.config.settings import GatewaySettings
from dataflow.errors import SettingsError
from dataflow.gateways import mapping
from dataflow.gateways.http import HttpGateway
from dataflow.gateways.mapping_shape import HttpMapping
from dataflow.gateways.replies import quoted


def build(settings: GatewaySettings) -> HttpGateway:
    """Build it; `SettingsError` if a file is wrong."""
    assert settings.http_url is not None
    return HttpGateway(
        settings.http_url,
        _mapping(settings.http_mapping),
        credentials=settings.http_credentials,
        timeout_s=settings.timeout_s,
        tls=tls_context(settings.http_ca, settings.http_certificate, settings.http_key),
    )


def _mapping(path: str | None) -> HttpMapping:
    if path is None:
        return mapping.contract()
    try:
        return mapping.read(Path(path).read_text(encoding="utf-8"))
    except (ValueError, OSError) as err:
        raise SettingsError([f"HTTP_GATEWAY_MAPPING: {path}: {quoted(err)}"]) from err


def tls_context(ca: str | None, certificate: str | None, key: str | None) -> ssl.SSLContext | None:
    """Return the authorities and the client certificate; None for those of the system, and none.

    Raises:
        SettingsError: a file is wrong.
    """
    if ca is None and certificate is None:
        return None
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(certificate, key, _no_password)
    except OSError as err:  # an SSLError is one
        name = "HTTP_GATEWAY_CA" if certificate is None else "HTTP_GATEWAY_CERTIFICATE"
        problem = f"{name}: the PEM files cannot be used: {quoted(err)}"
        raise SettingsError([problem]) from err
    return context


def _no_password() -> str:
    """Refuse an encrypted key: otherwise OpenSSL asks for its password at the terminal."""
    raise OSError("the key is encrypted; use one that is not, and protect its file")

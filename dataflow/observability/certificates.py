"""The expiry of the certificates that Kafka and the payment provider are reached with.

They are read once, as the clients do: a file that was renewed since takes effect, here as there,
with the next start.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflow.config.settings import GatewaySettings, KafkaSettings, Settings
from dataflow.config.variables import OAUTHBEARER

_log = structlog.get_logger()

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_LONG_FORM = 0x80


_Pick = Callable[[list[float]], float]
_File = tuple[str, str | None, _Pick]
"""Name of the series, path, and which of the dates in the file counts."""


class CertificateMetrics(Collector):
    """Expiry of the files with authorities and of the client certificates, where they are set."""

    def __init__(self, settings: Settings) -> None:
        self._kafka = _dates(_of_kafka(settings.kafka))
        self._gateway = _dates(_of_gateway(settings.gateway))

    def describe(self) -> Iterable[Metric]:
        """Return the same families as ever."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield one series for each file."""
        for prefix, dates in (("kafka", self._kafka), ("payments_gateway", self._gateway)):
            gauge = GaugeMetricFamily(
                f"{prefix}_certificate_expiry_timestamp_seconds",
                "Unix time when a CA file (its last authority) or a client certificate expires.",
                labels=["certificate"],
            )
            for name, at in dates.items():
                gauge.add_metric([name], at)
            yield gauge


# Of several authorities one is enough to trust a server; a chain is as weak as any link.


def _of_kafka(kafka: KafkaSettings) -> Iterator[_File]:
    if kafka.security_protocol.endswith("SSL"):
        yield "ca", kafka.ssl_ca_location, max
        yield "client", kafka.ssl_certificate_location, min
    if kafka.uses_sasl and kafka.sasl_mechanism == OAUTHBEARER:
        yield "oauth-ca", kafka.oauth_ca_location, max


def _of_gateway(gateway: GatewaySettings) -> Iterator[_File]:
    # No name is used twice: alerts are about both families.
    yield "gateway-ca", gateway.http_ca, max
    yield "gateway-client", gateway.http_certificate, min


def _dates(files: Iterable[_File]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, path, pick in files:
        if path is not None:
            try:
                found[name] = pick(expiries(Path(path).read_text()))
            except (OSError, ValueError, IndexError) as error:
                # The client itself judges the file; we only look at the date.
                _log.warning(
                    "certificate expiry could not be read", certificate=name, error=str(error)
                )
    return found


def expiries(pem: str) -> list[float]:
    """Return when each certificate of a PEM file expires, as Unix time in seconds.

    Raises:
        ValueError: there is none, or one is not as RFC 5280 has it.
        IndexError: one ends too early.
    """
    found = [_expiry(_BEGIN + part.partition(_END)[0] + _END) for part in pem.split(_BEGIN)[1:]]
    if not found:
        raise ValueError("no certificate in the file")
    return found


def _expiry(pem: str) -> float:
    """Return the `notAfter` of RFC 5280: certificate, to be signed, validity, second of two."""
    _, certificate, _ = _element(ssl.PEM_cert_to_DER_cert(pem))
    _, rest, _ = _element(certificate)
    if rest[0] == _VERSION:
        _, _, rest = _element(rest)
    for _ in ("serial number", "signature", "issuer"):
        _, _, rest = _element(rest)
    tag, validity, _ = _element(rest)
    if tag != _SEQUENCE:
        raise ValueError("not an X.509 certificate")
    _, _, after = _element(validity)
    tag, text, _ = _element(after)
    form = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode("ascii"), form).replace(tzinfo=UTC).timestamp()


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """Tag and content of the first element, and what comes after it."""
    length, start = der[1], 2
    if length & _LONG_FORM:
        start += length & ~_LONG_FORM
        length = int.from_bytes(der[2:start], "big")
    if len(der) < start + length:
        raise ValueError("a certificate ends too early")
    return der[0], der[start : start + length], der[start + length :]

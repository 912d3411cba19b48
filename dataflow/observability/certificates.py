"""The expiry of the certificates that Kafka is reached with.

They are read once, as the Kafka clients do: a file that was renewed since takes effect, here as
there, with the next start.
"""

import ssl
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from dataflow.config.settings import KafkaSettings

_log = structlog.get_logger()

_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_LONG_FORM = 0x80


class CertificateMetrics(Collector):
    """Expiry of the authorities' file and of the client's certificate, where they are set."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self._expiry: dict[str, float] = {}
        if not kafka.security_protocol.endswith("SSL"):
            return
        # Of several authorities one is enough to trust the brokers; a chain is as weak as any link.
        for name, path, pick in (
            ("ca", kafka.ssl_ca_location, max),
            ("client", kafka.ssl_certificate_location, min),
        ):
            if path is not None:
                try:
                    self._expiry[name] = pick(expiries(Path(path).read_text()))
                except (OSError, ValueError, IndexError) as error:
                    # Kafka's own client judges the file; we only look at the date.
                    _log.warning(
                        "certificate expiry could not be read", certificate=name, error=str(error)
                    )

    def describe(self) -> Iterable[Metric]:
        """Return the same families as ever."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield one series for each file."""
        gauge = GaugeMetricFamily(
            "kafka_certificate_expiry_timestamp_seconds",
            "Unix time when the CA file (its last authority) or the client certificate expires.",
            labels=["certificate"],
        )
        for name, at in self._expiry.items():
            gauge.add_metric([name], at)
        yield gauge


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

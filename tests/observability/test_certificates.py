"""The expiry of certificates: our reading of the bytes against another library's certificates."""

import datetime as dt
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from dataflow.config.settings import GatewaySettings, KafkaSettings, Settings
from dataflow.observability.certificates import CertificateMetrics, expiries
from tests.support.kafka import certificates as kafkatest_certificates
from tests.support.required import REQUIRED

SOON = dt.datetime(2030, 1, 31, 12, 30, 59, tzinfo=dt.UTC)
LATE = dt.datetime(2061, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
"""From 2050 on, a date is written in another form."""
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(expires: dt.datetime, key: Key | None = None) -> str:
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
        .not_valid_after(expires)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture
def kafka() -> KafkaSettings:
    return Settings.from_env(REQUIRED | {"KAFKA_SECURITY_PROTOCOL": "SSL"}).kafka


def families(settings: Settings) -> dict[str, dict[str, float]]:
    registry = CollectorRegistry(auto_describe=True)
    registry.register(CertificateMetrics(settings))
    return {
        family.name: {each.labels["certificate"]: each.value for each in family.samples}
        for family in registry.collect()
    }


def exposed(kafka: KafkaSettings) -> dict[str, float]:
    found = families(replace(Settings.from_env(REQUIRED), kafka=kafka))
    return found["kafka_certificate_expiry_timestamp_seconds"]


def exposed_of_gateway(gateway: GatewaySettings) -> dict[str, float]:
    found = families(replace(Settings.from_env(REQUIRED), gateway=gateway))
    return found["payments_gateway_certificate_expiry_timestamp_seconds"]


def test_dates_of_either_form_are_read_in_all_of_a_file() -> None:
    text = (
        "Subject: a comment\n" + pem(SOON) + "\n" + pem(LATE, rsa.generate_private_key(65537, 2048))
    )
    assert expiries(text) == [SOON.timestamp(), LATE.timestamp()]


def test_an_authority_as_kafka_uses_it(tmp_path: Path) -> None:
    made = kafkatest_certificates.write(tmp_path)
    known = x509.load_pem_x509_certificate(made.ca.read_bytes()).not_valid_after_utc
    assert expiries(made.ca.read_text()) == [known.timestamp()]
    # With the private key in the same file.
    assert expiries(made.server.read_text()) == [pytest.approx(known.timestamp(), abs=60)]


def test_the_last_authority_counts_and_the_first_of_a_chain(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(pem(LATE) + pem(SOON))
    kafka = replace(kafka, ssl_ca_location=str(both), ssl_certificate_location=str(both))
    assert exposed(kafka) == {"ca": LATE.timestamp(), "client": SOON.timestamp()}


def test_nothing_is_exposed_without_files_or_without_tls(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(pem(SOON))
    assert exposed(kafka) == {}
    plain = replace(kafka, security_protocol="SASL_PLAINTEXT", ssl_ca_location=str(ca))
    assert exposed(plain) == {}
    assert exposed(replace(plain, security_protocol="SASL_SSL")) == {"ca": SOON.timestamp()}


def test_the_authority_of_a_token_provider_counts_with_tokens_only(
    tmp_path: Path, kafka: KafkaSettings
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(pem(SOON))
    tokens = replace(
        kafka,
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        oauth_ca_location=str(ca),
    )
    assert exposed(tokens) == {"oauth-ca": SOON.timestamp()}
    assert exposed(replace(tokens, sasl_mechanism="PLAIN")) == {}


def test_the_files_of_a_gateway_have_series_of_their_own(
    tmp_path: Path,
) -> None:
    both = tmp_path / "both.pem"
    both.write_text(pem(LATE) + pem(SOON))
    gateway = Settings.from_env(REQUIRED).gateway
    assert exposed_of_gateway(gateway) == {}
    gateway = replace(gateway, http_ca=str(both), http_certificate=str(both))
    assert exposed_of_gateway(gateway) == {
        "gateway-ca": LATE.timestamp(),
        "gateway-client": SOON.timestamp(),
    }


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nothing here",
        "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\nMIIB!",
    ],
    ids=["empty", "text", "der", "blank", "base64"],
)
def test_a_file_that_is_no_certificate_is_not_exposed_and_stops_nothing(
    content: str, tmp_path: Path, kafka: KafkaSettings
) -> None:
    (tmp_path / "ca.pem").write_text(content)
    assert exposed(replace(kafka, ssl_ca_location=str(tmp_path / "ca.pem"))) == {}


def test_half_a_certificate_is_none() -> None:
    with pytest.raises(ValueError, match="too early"):
        expiries(pem(SOON)[:300])


def test_a_file_that_cannot_be_read_stops_nothing(tmp_path: Path, kafka: KafkaSettings) -> None:
    assert exposed(replace(kafka, ssl_ca_location=str(tmp_path / "missing.pem"))) == {}

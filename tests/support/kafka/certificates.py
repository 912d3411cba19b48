"""Throw-away TLS certificates: a CA, a server's for `localhost` only, and an unrelated CA."""

import datetime as dt
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFETIME = dt.timedelta(days=2)


@dataclass(frozen=True)
class Certificates:
    """PEM files.

    Attributes:
        ca: The certificate of the CA that signed the server's.
        other_ca: The certificate of an unrelated CA with the same name, so that only the
            signature distinguishes them.
        server: The server's private key and certificate. Its only name is `localhost`: a client
            that checks the host name must refuse 127.0.0.1.
    """

    ca: Path
    other_ca: Path
    server: Path


def write(directory: Path) -> Certificates:
    """Make new certificates and write them to `directory`."""
    files = Certificates(directory / "ca.pem", directory / "other-ca.pem", directory / "server.pem")
    ca_key, ca = _authority()
    _, other_ca = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    server = (
        _builder("localhost", key.public_key(), issuer=ca.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    files.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    files.other_ca.write_bytes(other_ca.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    files.server.write_bytes(private + server.public_bytes(serialization.Encoding.PEM))
    return files


def _authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        _builder("kafkatest CA", key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    return key, certificate


def _builder(
    name: str, key: ec.EllipticCurvePublicKey, issuer: x509.Name | None = None
) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # A clock that is set back a little between runs must not fail the handshake.
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
    )

"""The broker with more listeners, encrypted by TLS: one with a login by SCRAM, one by tokens."""

from collections.abc import Mapping, Sequence

from tests.support.kafka import certificates, ports
from tests.support.kafka.broker import Broker, Listener
from tests.support.kafka.tokens import AUDIENCE, ISSUER, TokenServer

MECHANISM = "SCRAM-SHA-512"
USER = "payments"
PASSWORD = "an-example-password"
_OAUTH = "org.apache.kafka.common.security.oauthbearer"


class SecureBroker(Broker):
    """A `Broker` with two SASL_SSL listeners beside the plaintext one.

    Attributes:
        sasl_ssl_bootstrap: `localhost:port` of that listener. Its certificate is for `localhost`
            only, so a client that checks host names must refuse `127.0.0.1:port`.
        ca_pem: Path of the certificate of the CA that signed it.
        other_ca_pem: Path of the certificate of a CA that did not.
        user: The one user there is.
        password: Theirs.
        oauth_bootstrap: `localhost:port` of the listener that takes tokens, of `tokens` alone.
        tokens: The provider of tokens.
    """

    def __init__(
        self, *, port: int | None, config: Mapping[str, str], java_options: Sequence[str]
    ) -> None:
        super().__init__(port=port, config=config, java_options=java_options)
        files = certificates.write(self.directory)
        sasl_ssl, oauth = ports.free(2, for_good=True)
        self.listeners["SASL_SSL"] = Listener("localhost", sasl_ssl)
        self.listeners["OAUTH"] = Listener("localhost", oauth, protocol="SASL_SSL")
        self.tokens = TokenServer(self.directory, files.server)
        keys = f"file://{self.tokens.jwks}"
        # Since 4.0 Kafka takes keys from nowhere else.
        allowed = f"-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={keys}"
        self._java_options = (*java_options, allowed)
        self.settings |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(files.server),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(files.ca),
            "sasl.enabled.mechanisms": MECHANISM,
            f"listener.name.sasl_ssl.{MECHANISM.lower()}.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            "listener.name.oauth.sasl.enabled.mechanisms": "OAUTHBEARER",
            "listener.name.oauth.oauthbearer.sasl.jaas.config": (
                f"{_OAUTH}.OAuthBearerLoginModule required;"
            ),
            "listener.name.oauth.oauthbearer.sasl.server.callback.handler.class": (
                f"{_OAUTH}.OAuthBearerValidatorCallbackHandler"
            ),
            "sasl.oauthbearer.jwks.endpoint.url": keys,
            "sasl.oauthbearer.expected.issuer": ISSUER,
            "sasl.oauthbearer.expected.audience": AUDIENCE,
        }
        self.oauth_bootstrap = f"localhost:{oauth}"
        self.sasl_ssl_bootstrap = f"localhost:{sasl_ssl}"
        self.ca_pem = str(files.ca)
        self.other_ca_pem = str(files.other_ca)
        self.user = USER
        self.password = PASSWORD

    def sasl_ssl_config(self) -> dict[str, str]:
        """Return the librdkafka settings of a client that logs in as it should."""
        return {
            "bootstrap.servers": self.sasl_ssl_bootstrap,
            "security.protocol": "SASL_SSL",
            "ssl.ca.location": self.ca_pem,
            "sasl.mechanism": MECHANISM,
            "sasl.username": self.user,
            "sasl.password": self.password,
        }

    def close(self) -> None:
        """End broker and provider for good, and delete the data."""
        super().close()
        self.tokens.close()

    def _format(self, *options: str) -> None:
        scram = f"{MECHANISM}=[name={self.user},password={self.password}]"
        super()._format("--add-scram", scram, *options)

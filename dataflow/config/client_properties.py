"""Properties of librdkafka from a file, and those that no file may set.

1. A line is `name=value`; blanks around either do not count. A line that is blank, or begins with
   `#` or `!`, is a comment. A backslash is a character like any other: passwords have it.
2. A property that carries a guarantee of the flow, or that another variable of ours sets, is
   refused, under each of its names. All others are librdkafka's to judge, at the start.
3. A value may be a secret, so none is ever quoted.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from dataflow.config.secret import Secret

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*", re.IGNORECASE)
_SENSITIVE = re.compile(
    r"passw|passphrase|secret|username|\.pem$|oauthbearer\.(?:config|extensions)|assertion\.claim"
)
_FILE = re.compile(r"\.location$|\.file$|\.keytab$")
_READ_EACH_TIME = {"sasl.oauthbearer.assertion.file"}
"""Files that the client itself reads again: a token that is renewed every hour, for one."""
_OF_CODE = re.compile(r"_cb$|_callback_data$|^(?:logger|on_\w+|opaque|interceptors|msg_order_cmp)$")
"""Names of properties that have no form as a text: the client takes them from code only."""


class ClientProperties(Struct, frozen=True):
    """The content of the file: properties that every client gets if they concern it."""

    path: str
    values: dict[str, Secret]

    def revealed(self) -> dict[str, str]:
        """Return them as the client takes them."""
        return {name: value.reveal() for name, value in self.values.items()}

    def secrets(self) -> list[Secret]:
        """Return the values that are secrets by the names of their properties."""
        return [value for name, value in self.values.items() if _SENSITIVE.search(name)]

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield the properties that name files which a client reads once, such as a key store."""
        for name, value in self.values.items():
            if _FILE.search(name) and name not in _READ_EACH_TIME:
                yield name, Path(value.reveal())

    def without_values(self, text: str) -> str:
        """Return a text of librdkafka's without what it quotes of the values."""
        for name, value in self.values.items():
            text = text.replace(f'"{value.reveal()}"', '"***"')
            if _SENSITIVE.search(name):
                text = text.replace(value.reveal(), "***")
        return text

    def refusals(self) -> Iterator[str]:
        """Yield why properties are refused: the name of each, and the guarantee it would break."""
        for name in self.values:
            if name in REFUSED:
                yield f"{name} is not for this file: {REFUSED[name]}; remove it"
            elif _OF_CODE.search(name) or name in {"default_topic_conf", "default.topic.config"}:
                yield f"{name} is not for this file: it is set by code only; remove it"


def parse(path: str) -> ClientProperties:
    """Read a file; `ValueError`, with the reason as its text, if it is not as in rule 1."""
    try:
        lines = Path(path).read_bytes().decode().splitlines()
    except OSError as err:
        raise ValueError(err.strerror) from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None
    found: dict[str, Secret] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text[0] in "#!":
            continue
        name, equals, value = (part.strip() for part in text.partition("="))
        # Not even the name is quoted: a line that is no property may be the rest of a secret.
        if not equals or not _NAME.fullmatch(name):
            raise ValueError(f"line {number} is not name=value")
        if name in found:
            raise ValueError(f"line {number}: {name} is there twice")
        found[name] = Secret(value)
    return ClientProperties(path, found)


def _refused() -> dict[str, str]:
    """Return the reason for each name: the setting that is ours, or the guarantee."""
    return {
        name: reason
        for names, reason in (
            *((names, f"set {variable} instead") for names, variable in _OURS.items()),
            *_GUARANTEES.items(),
        )
        for name in names.split()
    }


_OURS = {
    "bootstrap.servers metadata.broker.list": "KAFKA_BROKERS",
    "security.protocol": "KAFKA_SECURITY_PROTOCOL",
    "sasl.mechanism sasl.mechanisms": "KAFKA_SASL_MECHANISM",
    "sasl.username": "KAFKA_SASL_USERNAME",
    "sasl.password": "KAFKA_SASL_PASSWORD",
    "sasl.oauthbearer.method": "KAFKA_SASL_MECHANISM=OAUTHBEARER",
    "sasl.oauthbearer.token.endpoint.url": "KAFKA_OAUTH_TOKEN_URL",
    "sasl.oauthbearer.client.id sasl.oauthbearer.client.credentials.client.id": (
        "KAFKA_OAUTH_CLIENT_ID"
    ),
    "sasl.oauthbearer.client.secret sasl.oauthbearer.client.credentials.client.secret": (
        "KAFKA_OAUTH_CLIENT_SECRET"
    ),
    "sasl.oauthbearer.scope": "KAFKA_OAUTH_SCOPE",
    "https.ca.location https.ca.pem": "KAFKA_OAUTH_CA_LOCATION",
    "ssl.ca.location": "KAFKA_SSL_CA_LOCATION",
    "ssl.certificate.location": "KAFKA_SSL_CERTIFICATE_LOCATION",
    "ssl.key.location": "KAFKA_SSL_KEY_LOCATION",
    "ssl.key.password": "KAFKA_SSL_KEY_PASSWORD",
    "group.id": "KAFKA_GROUP_ID",
    "transaction.timeout.ms": "KAFKA_TRANSACTION_TIMEOUT",
    "message.max.bytes": "KAFKA_MESSAGE_MAX_BYTES",
    "compression.type compression.codec": "KAFKA_COMPRESSION",
}
"""Properties with a variable of ours."""

_GUARANTEES = {
    "transactional.id": (
        "it fences the former process of a lane; otherwise two processes could publish one payment"
    ),
    "enable.idempotence acks request.required.acks max.in.flight"
    " max.in.flight.requests.per.connection retries message.send.max.retries"
    " enable.gapless.guarantee queuing.strategy": (
        "a transaction has each record once, in order, on all in-sync replicas; otherwise outcomes"
        " could be lost, doubled or reordered"
    ),
    "message.timeout.ms delivery.timeout.ms": (
        "a record is retried for as long as its transaction; given up sooner, it would end the"
        " process, and later, it would outlive the transaction"
    ),
    "isolation.level": (
        "requests of an aborted transaction were never made; otherwise they would be charged"
    ),
    "enable.auto.commit auto.commit.enable auto.commit.interval.ms enable.auto.offset.store"
    " offset.store.method offset.store.path offset.store.sync.interval.ms": (
        "the input position is committed with the outcomes; by a timer, payments would be skipped"
        " or repeated after a crash"
    ),
    "auto.offset.reset": (
        "a position that is lost stops the flow; a jump would skip payments or repeat them"
    ),
    "group.instance.id group.protocol group.protocol.type group.remote.assignor"
    " partition.assignment.strategy": (
        "the flow assigns the partitions itself; in a rebalance two processes could read one"
    ),
    "enable.partition.eof": "the flow takes it for an error of the input, and ends",
    "check.crcs": (
        "what is read of the lane log is checked; a damaged paymentId would be forgotten, and a"
        " copy of its payment charged again"
    ),
    "topic.blacklist": "every topic of the flow is read and written; hidden, payments would wait",
    "allow.auto.create.topics": (
        "a topic that is missing stops the start; created by itself, it has neither the partitions"
        " nor the retention that the flow needs"
    ),
    "partitioner": (
        "records of a key are where clients in Java expect them; otherwise the order of a key's"
        " records is lost to readers"
    ),
    "delivery.report.only.error dr_cb dr_msg_cb produce.offset.report": (
        "each failed delivery is counted and aborts the transaction; reports of successes would"
        " fill the memory"
    ),
    "api.version.request api.version.fallback.ms broker.version.fallback": (
        "transactions need the broker's own protocol versions; a guess would write without them"
    ),
    "enable.ssl.certificate.verification ssl.endpoint.identification.algorithm": (
        "a broker proves who it is; otherwise payments and the password could go to another"
    ),
    "enable.sasl.oauthbearer.unsecure.jwt": (
        "a login is proven by a signed token; anyone can write an unsecured one"
    ),
    "queued.max.messages.kbytes queued.min.messages queue.buffering.max.messages"
    " queue.buffering.max.kbytes": (
        "the memory of a process is bounded by them, whatever the number of its partitions and"
        " lanes; otherwise it could be killed for want of memory, again and again"
    ),
    "topic.metadata.refresh.interval.ms": (
        "a partition that has moved is found within seconds; otherwise a transaction could time out"
        " before"
    ),
    "client.id": "each client is named after what it does: logs and quotas go by it",
    "log.queue enabled_events": "log lines reach the flow's log; from a queue, nobody reads them",
    "plugin.library.paths": "the code of a plugin could change, drop or copy records unseen",
    "test.mock.num.brokers": "payments come from the real Kafka; a mock has none, and keeps none",
}
"""Properties that carry a guarantee: why they are as they are, and what another value would do."""

REFUSED = _refused()
"""The reason, by each name of a property."""

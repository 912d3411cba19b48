"""Environment variables whose names are nearly ours: each leaves one of ours at its default.

1. A name that can only be a slip is refused: ours in another case, with a unit appended to a
   duration, or with a character or two wrong. Not in names of up to four characters.
2. Another program's name for one of ours is refused if ours is not set. If ours is set, or of no
   use with this KAFKA_SECURITY_PROTOCOL, the environment is shared with that program: a warning.
3. A slip in a name that many programs use may be another program's variable: a warning.
4. A name that Kafka clients use, and that has no counterpart here: a warning.

Everything else belongs to other programs. Values are never quoted: they may be secrets.
"""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from dataflow.config.variables import VARIABLES

_BYTEWAX = {
    "BYTEWAX_RECOVERY_DIRECTORY": "recovery",
    "BYTEWAX_SNAPSHOT_INTERVAL": "0",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "0",
    "BYTEWAX_WORKERS_PER_PROCESS": "1",
    "BYTEWAX_PROCESS_ID": "0",
    "BYTEWAX_ADDRESSES": "localhost:2101;localhost:2102",
    "BYTEWAX_HOSTFILE_PATH": "/etc/bytewax/hostfile.txt",
    "BYTEWAX_POD_NAME": "payments-service-0",
    "BYTEWAX_STATEFULSET_NAME": "payments-service",
    "BYTEWAX_DATAFLOW_API_ENABLED": "false",
    "BYTEWAX_DATAFLOW_API_PORT": "3030",
    "BYTEWAX_DATAFLOW_API_CACHE_PATH": "/tmp",  # noqa: S108  (an example)
}
"""The engine's variables, with an example: it ignores a misspelt one as silently as we would."""
_SHARED = frozenset({"LOG_LEVEL", "APP_ENV"})
"""Names that many programs use."""
_ALIASES = {
    "KAFKA_BROKERS": (
        "KAFKA_BOOTSTRAP_SERVERS KAFKA_BOOTSTRAP_SERVER KAFKA_BOOTSTRAP KAFKA_BOOTSTRAP_BROKERS"
        " KAFKA_BROKER_LIST KAFKA_BROKER_URL KAFKA_BROKER_URLS KAFKA_URL KAFKA_URLS KAFKA_HOST"
        " KAFKA_HOSTS KAFKA_SERVER KAFKA_SERVERS BOOTSTRAP_SERVERS SPRING_KAFKA_BOOTSTRAP_SERVERS"
    ),
    "KAFKA_SECURITY_PROTOCOL": (
        "KAFKA_SSL KAFKA_SSL_ENABLED KAFKA_USE_SSL KAFKA_ENABLE_SSL KAFKA_TLS KAFKA_TLS_ENABLED"
        " KAFKA_USE_TLS KAFKA_SASL KAFKA_SASL_ENABLED KAFKA_USE_SASL KAFKA_PROTOCOL"
    ),
    "KAFKA_SASL_MECHANISM": "KAFKA_MECHANISM KAFKA_AUTH_MECHANISM",
    "KAFKA_SASL_USERNAME": (
        "KAFKA_USERNAME KAFKA_USER KAFKA_SASL_USER KAFKA_SASL_PLAIN_USERNAME KAFKA_API_KEY"
    ),
    "KAFKA_SASL_PASSWORD": (
        "KAFKA_PASSWORD KAFKA_PASS KAFKA_SASL_PASS KAFKA_SASL_PLAIN_PASSWORD KAFKA_API_SECRET"
    ),
    "KAFKA_SSL_CA_LOCATION": (
        "KAFKA_CA KAFKA_CA_FILE KAFKA_CA_CERT KAFKA_SSL_CA KAFKA_SSL_CAFILE KAFKA_SSL_CA_FILE"
        " KAFKA_SSL_CA_CERT KAFKA_SSL_CA_PATH"
    ),
    "KAFKA_SSL_CERTIFICATE_LOCATION": (
        "KAFKA_CLIENT_CERT KAFKA_SSL_CERT KAFKA_SSL_CERTFILE KAFKA_SSL_CERT_FILE"
        " KAFKA_SSL_CERT_LOCATION KAFKA_SSL_CERT_PATH"
    ),
    "KAFKA_SSL_KEY_LOCATION": (
        "KAFKA_CLIENT_KEY KAFKA_SSL_KEY KAFKA_SSL_KEYFILE KAFKA_SSL_KEY_FILE KAFKA_SSL_KEY_PATH"
    ),
    "KAFKA_GROUP_ID": "KAFKA_GROUP KAFKA_CONSUMER_GROUP KAFKA_CONSUMER_GROUP_ID",
    "KAFKA_TOPIC_REQUESTED": "KAFKA_TOPIC KAFKA_INPUT_TOPIC KAFKA_TOPIC_INPUT",
    "DEDUPE_WINDOW": "DEDUPE_TTL DEDUP_TTL DEDUPLICATION_WINDOW",
    "GATEWAY": "GATEWAY_NAME GATEWAY_PROVIDER PAYMENT_GATEWAY PAYMENTS_GATEWAY PAYMENT_PROVIDER",
    "BYTEWAX_RECOVERY_DIRECTORY": "BYTEWAX_RECOVERY_DIR BYTEWAX_RECOVERY_PATH",
    "BYTEWAX_SNAPSHOT_INTERVAL": "BYTEWAX_EPOCH_INTERVAL",
    "BYTEWAX_RECOVERY_BACKUP_INTERVAL": "BYTEWAX_BACKUP_INTERVAL",
    "BYTEWAX_WORKERS_PER_PROCESS": "BYTEWAX_WORKERS",
}
"""Names that other programs, or a hasty reader of ours, use for them."""
_WITHOUT_COUNTERPART = {"KAFKA_CLIENT_ID": "each client is named after what it does"}
_UNITS = "MS|MILLIS|MILLISECONDS|S|SEC|SECS|SECONDS|M|MIN|MINS|MINUTES|H|HOURS|D|DAYS"
_PROTOCOL = "KAFKA_SECURITY_PROTOCOL"
_SERVICE_LINK = re.compile("(?:tcp|udp|sctp)://")
"""The value that Kubernetes puts into the `…_PORT` of each service in the namespace."""

_VARIABLES = {variable.name: variable for variable in VARIABLES}
_FILES = {f"{variable.name}_FILE" for variable in VARIABLES if variable.secret}
_OURS = [*_VARIABLES, *sorted(_FILES), *_BYTEWAX]
_READ = {*_OURS, *(variable.synonym for variable in VARIABLES)}
_MEANT_BY = {alias: name for name, aliases in _ALIASES.items() for alias in aliases.split()}
_DURATIONS = [v.name for v in VARIABLES if v.kind.expects.startswith("a duration")]
_WITH_A_UNIT = re.compile(f"({'|'.join(_DURATIONS)})_(?:{_UNITS})")


class Suspect(Struct, frozen=True):
    """A variable that was probably meant to be one of ours."""

    problem: str
    refused: bool
    """It cannot be anything else; otherwise a warning is enough."""


def suspects(environ: Mapping[str, str]) -> Iterator[Suspect]:
    """Yield the set variables that look like one of ours, by name."""
    for name, text in sorted(environ.items()):
        if text and name not in _READ and not _SERVICE_LINK.match(text):
            found = _suspect(name, environ)
            if found is not None:
                yield found


def _suspect(name: str, environ: Mapping[str, str]) -> Suspect | None:
    if name in _WITHOUT_COUNTERPART:
        return Suspect(f"{name}: ignored: {_WITHOUT_COUNTERPART[name]}", refused=False)
    meant = _MEANT_BY.get(name)
    if meant is not None:
        if environ.get(meant) or environ.get(f"{meant}_FILE"):
            return Suspect(f"{name}: ignored: {meant} is read instead", refused=False)
        if not _is_of_use(meant, environ):
            problem = f"{name}: ignored: not used with this {_PROTOCOL}"
            return Suspect(problem, refused=False)
        return Suspect(_problem(name, meant), refused=True)
    meant = _slip(name)
    if meant is None:
        return None
    return Suspect(_problem(name, meant), refused=meant not in _SHARED)


def _is_of_use(name: str, environ: Mapping[str, str]) -> bool:
    """Return whether the security protocol uses the variable."""
    protocol = environ.get(_PROTOCOL, "").strip() or _VARIABLES[_PROTOCOL].default
    return all(
        needed in protocol.upper()
        for needed in ("SASL", "SSL")
        if name.startswith(f"KAFKA_{needed}_")
    )


def _problem(name: str, meant: str) -> str:
    setting = meant.removesuffix("_FILE") if meant in _FILES else meant
    variable = _VARIABLES.get(setting)
    value = (variable.example or variable.default) if variable else _BYTEWAX[setting]
    if meant in _FILES:
        value = f"/run/secrets/{setting.lower()}"
    return f"{name}: unknown variable; did you mean {meant}?; example: {meant}={value}"


def _slip(name: str) -> str | None:
    """Return the variable of ours that the name is nearly the same as."""
    plain = re.sub("[-.]", "_", name.upper())
    with_a_unit = _WITH_A_UNIT.fullmatch(plain)
    if with_a_unit:
        return with_a_unit[1]
    for ours in _OURS:
        if _nearly(plain, ours):
            return ours
    return None


def _nearly(name: str, ours: str) -> bool:
    """Return whether few characters differ: fewer, if less is left to recognise it by."""
    if len(ours) < 5:  # noqa: PLR2004  (PORT and HOST: POST, PORTS and GHOST are words of their own)
        return False
    if len(ours) < 8:  # noqa: PLR2004
        # Lengths differ, or characters are swapped: LINES, which terminals set, is not LANES.
        return _edits(name, ours, at_most=1) and (
            len(name) != len(ours) or sorted(name) == sorted(ours)
        )
    return _edits(name, ours, at_most=1 if len(ours) < 14 else 2)  # noqa: PLR2004


def _edits(one: str, other: str, *, at_most: int) -> bool:
    """Return whether so many insertions, deletions, substitutions and swaps separate the two."""
    if abs(len(one) - len(other)) > at_most:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        last, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1] <= at_most

"""Secrets that rotate: mounted files are watched, and a change that holds is taken over.

Nothing of a running process is exchanged: dozens of clients hold connections, transactions and
tokens. The process stops in order, as for SIGTERM, and becomes the same command again, as it does
for new input partitions. So it stays one container, without a back-off by Kubernetes and without a
supervisor that must restart what ends with 0; and in a cluster of several processes, all do the
same, because the stop carries the restart to them.

A change holds if a start would accept it: the settings can be read, Kafka lets the new login in and
has the topics, the payment provider does not refuse the new key. Until then the old secrets stay;
so they do while Kafka is away, which no restart would help.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from dataflow.config.mounted_files import digests, mounted_files
from dataflow.config.settings import Settings
from dataflow.core.rotation import Action, Digests, Rotation
from dataflow.errors import StartRefusedError
from dataflow.gateways import registry
from dataflow.gateways.port import Gateway
from dataflow.gateways.replies import quoted
from dataflow.kafka import preflight
from dataflow.observability.redaction import register_secrets
from dataflow.schema_registry import extra
from dataflow.service.shutdown import Lifecycle

_log = structlog.get_logger()

_LOOK_EVERY_S = 10.0
_CHECK_EVERY_S = 60.0
_DELAY_LEAST_S = 60.0
"""The kubelets of a cluster's nodes take a minute or so to bring a new Secret to all pods: the
processes of a cluster start again together, and each should find the new one."""
_JITTER_S = 60.0
"""At most so much longer, by chance: not all that share a secret should stop at once."""
_OF_THE_REGISTRY = "SCHEMA_REGISTRY_"
_PROBE_MOST_S = 120.0
"""A gateway gives up by itself, much sooner. One that does not must not end the watch."""


class Mounted:
    """The files of a process, and what was in them when its settings were read."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        # Before the settings are read: a change in between is found, and at worst taken over twice.
        self._at_start = digests(mounted_files(environ, None))
        self._files: dict[str, Path] = {}

    def start_with(self, settings: Settings) -> Digests:
        """Return the content at the start, now that it is known which files properties name."""
        self._files = mounted_files(self._environ, settings.kafka.client_properties)
        return digests(self._files) | self._at_start

    def now(self) -> Digests:
        """Return the content of this moment."""
        return digests(self._files)

    @property
    def is_empty(self) -> bool:
        """True if no file is named."""
        return not self._files


class SecretWatch(threading.Thread):
    """A look at the files every few seconds.

    Args:
        mounted: The files.
        settings: Those that the process has started with.
        lifecycle: Of the process.
        check: Raises `StartRefusedError` if a start with these changes would be refused.
        wait: Sleeps.
    """

    def __init__(
        self,
        mounted: Mounted,
        settings: Settings,
        lifecycle: Lifecycle,
        check: Callable[[list[str]], None],
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name="secret-watch", daemon=True)
        self._mounted = mounted
        self._lifecycle = lifecycle
        self._check = check
        self._wait = wait
        self._rotation = Rotation(
            mounted.start_with(settings),
            delay_s=_DELAY_LEAST_S + random.uniform(0, _JITTER_S),  # noqa: S311  (no secret)
            check_every_s=_CHECK_EVERY_S,
        )

    def refused(self) -> list[str]:
        """Return the variables of changed files whose content cannot be used."""
        return [] if self._rotation.problem is None else self._rotation.changed

    def run(self) -> None:
        """Look, until the process stops."""
        if self._mounted.is_empty:
            return
        while True:
            self._wait(_LOOK_EVERY_S)
            if self._lifecycle.stopping:
                return
            try:
                self.look(time.monotonic())
            except Exception:  # noqa: BLE001  (the next look may succeed; without any, all is blind)
                _log.warning("mounted secrets could not be looked at", exc_info=True)

    def look(self, now_s: float) -> None:
        """Look once."""
        rotation = self._rotation
        former_problem = rotation.problem
        action = rotation.look(self._mounted.now(), now_s)
        if former_problem is not None and rotation.problem is None:
            _log.info("the secrets are again those that are in use")
        if action is Action.WAIT:
            return
        problem = self._problem()
        if problem is None and action is Action.RESTART:
            self._lifecycle.request_stop(
                f"secrets have changed: {', '.join(rotation.changed)}", restart=True
            )
        elif problem is None:
            _log.info("secrets have changed: the process starts again soon", **self._changed())
        elif problem != rotation.problem:
            _log.error(
                "changed secrets cannot be used: the old ones stay in use",
                reason=problem,
                **self._changed(),
            )
        rotation.checked(problem, now_s)

    def _problem(self) -> str | None:
        try:
            self._check(self._rotation.changed)
        except StartRefusedError as error:
            return str(error)
        except Exception as error:  # noqa: BLE001  (whatever a gateway of another package raises)
            return f"the check has failed: {quoted(error)}"
        return None

    def _changed(self) -> dict[str, list[str]]:
        # Not `secrets`: under such a key the log masks what it prints.
        return {"variables": self._rotation.changed}


def check(environ: Mapping[str, str], changed: list[str]) -> None:
    """Check the environment as a start would, and with the server that a variable belongs to.

    Raises:
        StartRefusedError: A start would be refused.
    """
    settings = Settings.from_env(environ)
    register_secrets([secret.reveal() for secret in settings.secrets()])
    preflight.inspect(settings.kafka)
    # Only then: an outage of another server must not keep a new login from Kafka.
    if any(name.startswith(_OF_THE_REGISTRY) for name in changed):
        extra.load("start").try_login(settings.schema_registry)
    if any(not name.startswith(("KAFKA_", _OF_THE_REGISTRY)) for name in changed):
        gateway = registry.create(settings.gateway)
        reply = asyncio.run(_probe(gateway))
        if reply is not None:
            raise StartRefusedError(f"GATEWAY={settings.gateway.name}: {reply}")


async def _probe(gateway: Gateway) -> str | None:
    try:
        reply = await asyncio.wait_for(gateway.probe(), _PROBE_MOST_S)
    finally:
        await gateway.close()
    return None if reply is None else quoted(getattr(reply, "reason", reply))

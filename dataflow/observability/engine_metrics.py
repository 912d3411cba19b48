"""Bytewax's own metrics, fetched from the engine and merged into ours.

The engine keeps them in Rust and exposes them in one way only: a web server of its own, on all
interfaces, switched on by environment variables it reads when the flow starts. So we choose a
port for it, ask it over the loopback interface, and pass on the families named `bytewax_*`.
`dataflow.service.loopback` closes that port to everyone else.
"""

import atexit
import http.client
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, MutableMapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from dataflow.errors import SettingsError

_ENABLED = "BYTEWAX_DATAFLOW_API_ENABLED"
_PORT = "BYTEWAX_DATAFLOW_API_PORT"
_CACHE_PATH = "BYTEWAX_DATAFLOW_API_CACHE_PATH"
_OFF = frozenset({"", "0", "false", "no", "off"})
_MAX_BYTES = 8 * 1024 * 1024
_PORT_MAX = 65535


def prepare_engine_api(environ: MutableMapping[str, str]) -> int | None:
    """Set the engine's API variables before it starts; its port, or None when it is off.

    On unless switched off. A value that means "no" *removes* the variable: the engine only asks
    whether it is set, so `false` would switch the server on. Without a port it gets a free one
    (its default, 3030, would be fought over by two processes of one machine); without a cache
    path a temporary directory (its default is the working directory, read-only in a container).

    Raises:
        SettingsError: The given port is no port, or is taken: the engine would go on without its
            server, and we would pass on another process's metrics as ours. Or there is no place
            to write to: the engine would not start at all.
    """
    if environ.get(_ENABLED, "1").strip().lower() in _OFF:
        environ.pop(_ENABLED, None)
        return None
    given = environ.get(_PORT, "").strip()
    if given and not (given.isascii() and given.isdigit() and 0 < int(given) <= _PORT_MAX):
        raise SettingsError([f"{_PORT}: {given!r} is not a port number (1 to {_PORT_MAX})"])
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            # All interfaces, as the engine does: the port must be free on each of them.
            probe.bind(("0.0.0.0", int(given or 0)))  # noqa: S104
        except OSError as error:
            problem = f"{_PORT}: port {given} cannot be used ({error.strerror}); choose another"
            raise SettingsError([problem]) from error
        port = int(probe.getsockname()[1])
    if not environ.get(_CACHE_PATH):
        try:
            cache = tempfile.mkdtemp(prefix="payments-engine-")
        except OSError as error:
            problem = f"{_CACHE_PATH}: needs a writable directory, and there is no temporary one"
            raise SettingsError([f"{problem}; set it, or {_ENABLED}=0"]) from error
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
        environ[_CACHE_PATH] = cache
    elif not os.access(environ[_CACHE_PATH], os.W_OK | os.X_OK):
        problem = f"{_CACHE_PATH}: {environ[_CACHE_PATH]!r} is no directory we may write to"
        raise SettingsError([f"{problem}; choose another, or leave it out"])
    environ[_ENABLED] = "1"
    environ[_PORT] = str(port)
    return port


class EngineMetrics(Collector):
    """A collector that passes on the `bytewax_*` families of the engine in this process.

    Call `close` from a source's or sink's own `close`. The engine takes down its web server while
    it holds the interpreter lock, which a request in progress needs to finish: a scrape at that
    moment would hang the process for ever instead of letting it exit.
    """

    def __init__(self, port: int, *, timeout_s: float = 1.0) -> None:
        self._port = port
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._closed = False
        self._abandoned = False

    def describe(self) -> Iterable[Metric]:
        """Return the one family we can promise; registering must not ask an unstarted engine."""
        return [_up(value=0)]

    def collect(self) -> Iterator[Metric]:
        """Yield the engine's families, and whether it answered; never raise."""
        families = self._families()
        yield _up(value=1 if families is not None else 0)
        yield from families or ()

    def close(self) -> None:
        """Close it: no request is in progress when this returns, and none will be made. Idempotent.

        Releases the interpreter lock while it waits: two `timeout_s` at the very most.
        """
        with self._lock:
            if self._abandoned and not self._closed:
                # A request we gave up on may still be in the engine: let it have the lock.
                time.sleep(self._timeout_s / 5)
            self._closed = True

    def _families(self) -> list[Metric] | None:
        with self._lock:
            if self._closed:
                return None
            try:
                text = self._get()
            except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
                self._abandoned = isinstance(error, TimeoutError)
                return None
        try:
            return _merged(
                family
                for family in text_string_to_metric_families(text)
                if family.name.startswith("bytewax_")
            )
        except (ValueError, KeyError, IndexError):  # whatever a parser makes of a non-engine
            return None

    def _get(self) -> str:
        # http.client, not urllib: it does not go through a proxy named in the environment.
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_s)
        try:
            connection.request("GET", "/metrics", headers={"Connection": "close"})
            response = connection.getresponse()
            body = response.read(_MAX_BYTES + 1)
            if response.status != http.client.OK or len(body) > _MAX_BYTES:
                raise http.client.HTTPException(response.status)
            return body.decode()
        finally:
            connection.close()


def _up(*, value: int) -> Metric:
    return GaugeMetricFamily(
        "payments_engine_metrics_up",
        "1 if Bytewax's metrics were collected for this scrape.",
        value=value,
    )


def _merged(families: Iterable[Metric]) -> list[Metric]:
    """Return the families for a scraper: each series once, with the bounds of OpenMetrics.

    The engine has several instruments of one name without a label that distinguishes them: their
    numbers are added up. And it writes `le="1"`, which must be `1.0`.
    """
    merged: dict[str, Metric] = {}
    sums: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for family in families:
        first = Metric(family.name, family.documentation, family.type)
        merged.setdefault(family.name, first)
        series = sums.setdefault(family.name, {})
        for sample in family.samples:
            labels = dict(sample.labels)
            if family.type == "histogram" and labels.get("le", "+Inf") != "+Inf":
                labels["le"] = str(float(labels["le"]))
            key = sample.name, tuple(labels.items())
            series[key] = series.get(key, 0.0) + sample.value
    for name, family in merged.items():
        for (sample_name, pairs), value in sums[name].items():
            family.add_sample(sample_name, dict(pairs), value)
    return list(merged.values())

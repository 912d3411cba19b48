"""A real Prometheus that scrapes the real flow, which is under load on a real Kafka."""

import http.client
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from confluent_kafka import Producer

from tests import ROOT
from tests.support.flow_process import LIMIT_S, Flow, Topics, mixed_requests, request
from tests.support.kafka import SecureBroker
from tests.support.kafka.ports import free

JOB = "payments-service"
PARTITIONS = 3


class Prometheus:
    """A running Prometheus, asked over its API."""

    def __init__(self, port: int) -> None:
        self.port = port

    @classmethod
    @contextmanager
    def start(
        cls, directory: Path, target_port: int, interval: str = "1s"
    ) -> Iterator["Prometheus"]:
        [port] = free(1)
        (directory / "prometheus.yml").write_text(
            json.dumps(
                {
                    "global": {
                        "scrape_interval": interval,
                        "scrape_timeout": interval,
                        "evaluation_interval": interval,
                    },
                    "rule_files": [str(ROOT / "grafana/prometheus/rules.yaml")],
                    "scrape_configs": [
                        {
                            "job_name": JOB,
                            "static_configs": [{"targets": [f"127.0.0.1:{target_port}"]}],
                        }
                    ],
                }
            )
        )
        command = [
            "prometheus",
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (
            (directory / "prometheus.log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as process,
        ):
            try:
                yield cls(port)
            finally:
                process.kill()

    def get(self, path: str, **params: str | float) -> Any:
        """Return the `data` of an answer of the API; a refused query raises with its reason."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", f"/api/v1/{path}?{urlencode(params)}")
            answer = json.load(connection.getresponse())
        finally:
            connection.close()
        if answer["status"] != "success":
            raise ValueError(answer["error"])
        return answer["data"]

    def is_up(self) -> bool:
        try:
            return bool(self.query("up"))
        except (OSError, ValueError):
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        vector: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return vector

    def query_range(
        self, expression: str, start: float, end: float, step: float
    ) -> list[dict[str, Any]]:
        """Return one series for each label set; `values` are pairs of Unix time and text."""
        found = self.get("query_range", query=expression, start=start, end=end, step=step)
        series: list[dict[str, Any]] = found["result"]
        return series


@contextmanager
def load(kafka: SecureBroker, topics: Topics, rate: int = 200) -> Iterator[None]:
    """Send so many mixed requests a second, until the end of the block."""
    done = threading.Event()

    def send() -> None:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
        declined = ("insufficient_funds", "card_expired", "fraud_suspected")
        for n, value in enumerate(mixed_requests(10**9, seed=7, duplicates=0.06)):
            if n % 40 == 0:
                value = request(f"pay-x-{n}:decline:{declined[n // 40 % len(declined)]}")  # noqa: PLW2901
            producer.produce(topics.requested, value, partition=(n * 7919) % PARTITIONS)
            if n % (rate // 20) == 0:
                producer.poll(0)  # to be rid of what is delivered
                if done.wait(0.05):
                    break
        producer.flush(30)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def login(kafka: SecureBroker) -> dict[str, str]:
    """Return the variables of a flow with certificates to watch: for Kafka and for a provider."""
    return {
        "KAFKA_BROKERS": kafka.sasl_ssl_bootstrap,
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_SASL_USERNAME": kafka.user,
        "KAFKA_SASL_PASSWORD": kafka.password,
        "KAFKA_SSL_CA_LOCATION": kafka.ca_pem,
        "HTTP_GATEWAY_CA": kafka.ca_pem,
    }


@contextmanager
def watched(
    kafka: SecureBroker, directory: Path, *, rate: int = 200, interval: str = "1s"
) -> Iterator[tuple[Prometheus, Flow]]:
    """Yield the Prometheus and the flow that it watches, under load."""
    topics = Topics.fresh(kafka, PARTITIONS)
    environ = login(kafka)
    with Flow(kafka, topics, directory, environ=environ, commit_interval="") as flow:
        flow.wait_until_ready()
        with (
            load(kafka, topics, rate),
            Prometheus.start(directory, flow.metrics_port, interval) as prometheus,
        ):
            flow.wait(prometheus.is_up, LIMIT_S, "scraped")
            yield prometheus, flow

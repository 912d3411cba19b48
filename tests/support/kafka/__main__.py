"""A broker in the foreground, with the product's topics, until Ctrl-C."""

# ruff: noqa: T201 -- what a command prints is its interface

import argparse
import signal
import sys
import time

from dataflow.kafka.preflight import LANE_LOG_CONFIG, PENDING_CONFIG
from tests.support.kafka import distribution, ports
from tests.support.kafka.broker import BrokerError, DiskBroker

TOPICS = {
    "payments.payment-requested": 3,
    "payments.payment-processed": 3,
    "payments.payment-failed": 3,
    "audit.payment-events": 3,
}
LANE_LOG = "payments.lane-log"
PENDING = "payments.payment-pending"


def main() -> int:
    """Run until SIGINT or SIGTERM (0), or until the broker dies or cannot start (1)."""
    args = _arguments()
    # Both mean: stop in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reason = distribution.missing()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 1
    if not ports.is_free(args.port):
        print(f"port {args.port} is taken; choose another with --port", file=sys.stderr)
        return 1
    try:
        distribution.jars()
        print(f"Starting Apache Kafka {distribution.version()} ...", flush=True)
        with DiskBroker.start(port=args.port) as broker:
            broker.create_topics(dict(args.topics or TOPICS.items()))
            if not args.topics:
                broker.create_topics({LANE_LOG: 3}, LANE_LOG_CONFIG)
                broker.create_topics({PENDING: 1}, PENDING_CONFIG)
            _welcome(broker)
            while broker.pid is not None:
                time.sleep(0.5)
            print(f"the broker died:\n{broker.log_tail()}", file=sys.stderr)
            return 1
    except KeyboardInterrupt:
        print("\nStopped; its data is deleted.")
        return 0
    except (BrokerError, distribution.FetchError) as error:
        print(error, file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.kafka", description=__doc__)
    parser.add_argument("--port", type=int, default=9092, help="default: %(default)s")
    parser.add_argument(
        "--topics",
        type=_topic,
        nargs="+",
        metavar="NAME:PARTITIONS",
        help="instead of the product's " + ", ".join([*TOPICS, LANE_LOG, PENDING]),
    )
    return parser.parse_args()


def _topic(text: str) -> tuple[str, int]:
    name, _, partitions = text.rpartition(":")
    if not name or not partitions.isdecimal() or int(partitions) == 0:
        message = f"{text!r} is not NAME:PARTITIONS, as in payments.payment-requested:3"
        raise argparse.ArgumentTypeError(message)
    return name, int(partitions)


def _welcome(broker: DiskBroker) -> None:
    topics = broker.admin().list_topics(timeout=10).topics
    width = max(map(len, topics))
    print(f"\nReady: {broker.bootstrap}    (process {broker.pid}, files in {broker.directory})\n")
    for name, topic in sorted(topics.items()):
        print(f"  {name:{width}}  {len(topic.partitions)} partitions")
    print(f"\nThe tests against it:  KAFKA_TEST_BROKERS={broker.bootstrap} pytest -m kafka")
    print("Ctrl-C stops it and deletes its data.", flush=True)


if __name__ == "__main__":
    sys.exit(main())

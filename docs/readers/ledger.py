"""Keep the payments and their totals in a database of our own: every event counts once.

python ledger.py BROKERS GROUP INSTANCE DATABASE TOPIC...
"""

import json
import sqlite3
import sys
from decimal import Decimal

from confluent_kafka import Consumer, KafkaException

TABLES = """
CREATE TABLE IF NOT EXISTS applied (topic, event_id, PRIMARY KEY (topic, event_id));
CREATE TABLE IF NOT EXISTS outcome (event_id PRIMARY KEY, event_type, payment_id, decided_at);
CREATE TABLE IF NOT EXISTS audit (event_id PRIMARY KEY, event_type, payment_id, decided_at);
CREATE TABLE IF NOT EXISTS total (currency PRIMARY KEY, amount TEXT);
"""


def main(brokers: str, group: str, instance: str, path: str, *topics: str) -> None:
    """Read the topics for ever."""
    database = sqlite3.connect(path)
    database.executescript(TABLES)
    consumer = Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "group.instance.id": instance,
            "isolation.level": "read_committed",  # librdkafka's default
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(list(topics))
    while True:
        messages = consumer.consume(500, timeout=1.0)
        with database:  # 1. what the events change, and that they have: one transaction
            for message in messages:
                if message.error():
                    raise KafkaException(message.error())
                # Decimal for all numbers: exact, and of any length.
                event = json.loads(message.value(), parse_float=Decimal, parse_int=Decimal)
                apply_once(database, message.topic(), event)
        if messages:
            consumer.commit(asynchronous=False)  # 2. only then the position in Kafka


def apply_once(database: sqlite3.Connection, topic: str, event: dict) -> None:
    """Apply an event, unless it was applied before a crash."""
    row = (topic, event["eventId"])
    if not database.execute("INSERT OR IGNORE INTO applied VALUES (?, ?)", row).rowcount:
        return
    row = (event["eventId"], event["eventType"], event["paymentId"])
    if "occurredAt" in event:
        database.execute("INSERT INTO audit VALUES (?, ?, ?, ?)", (*row, event["occurredAt"]))
    elif "failedAt" in event:
        database.execute("INSERT INTO outcome VALUES (?, ?, ?, ?)", (*row, event["failedAt"]))
    elif "processedAt" in event:
        database.execute("INSERT INTO outcome VALUES (?, ?, ?, ?)", (*row, event["processedAt"]))
        query = "SELECT amount FROM total WHERE currency = ?"
        before = database.execute(query, (event["currency"],)).fetchone()
        total = Decimal(before[0] if before else 0) + event["amount"]
        row = (event["currency"], str(total))
        database.execute("INSERT OR REPLACE INTO total VALUES (?, ?)", row)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The least environment that settings can be read from, for tests that are about something else."""

REQUIRED = {
    "KAFKA_BROKERS": "localhost:9092",
    "KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "GATEWAY": "simulated",
}

"""A producer of headers whose names are not UTF-8, which the Python client cannot send.

Other clients can (Sarama takes bytes). So librdkafka is called directly: the very library that the
Python client has loaded.
"""

import ctypes
from pathlib import Path

import confluent_kafka

_PRODUCER = 0
_END, _TOPIC, _PARTITION, _VALUE, _MSGFLAGS, _HEADERS = 0, 1, 3, 4, 7, 10
"""Of `rd_kafka_vtype_t`."""
_COPY = 2


def send(bootstrap: str, topic: str, partition: int, value: bytes, *names: bytes) -> None:
    """Send a record with a header of each name, and wait until Kafka has it."""
    library = _library()
    error = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", bootstrap.encode(), error, 512)
    producer = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, config, error, 512))
    assert producer.value, error.value
    headers = ctypes.c_void_p(library.rd_kafka_headers_new(len(names)))
    for name in names:
        size = ctypes.c_ssize_t
        library.rd_kafka_header_add(headers, name, size(len(name)), b"value", size(5))
    # A function with any number of arguments, each behind its kind.
    failed = library.rd_kafka_producev(
        producer,
        *(_TOPIC, topic.encode()),
        *(_PARTITION, ctypes.c_int32(partition)),
        *(_VALUE, value, ctypes.c_size_t(len(value))),
        *(_MSGFLAGS, _COPY),
        *(_HEADERS, headers),
        _END,
    )
    assert not failed
    assert not library.rd_kafka_flush(producer, 30_000)
    library.rd_kafka_destroy(producer)


def _library() -> ctypes.CDLL:
    package = Path(confluent_kafka.__file__).parent
    [path] = package.with_name("confluent_kafka.libs").glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_headers_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library

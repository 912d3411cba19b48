"""Logging: one line for one event, on standard output, from every library alike.

JSON where a machine reads along, aligned and coloured on a terminal. Whatever goes through
`logging` (uvicorn, the Kafka client) ends up in the same handler, so it looks the same and is
masked the same (see `dataflow.observability.redaction`). A server that sets up logging by itself
has to be stopped from it: uvicorn's `log_config=None`.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.processors import ExceptionRenderer
from structlog.stdlib import ProcessorFormatter
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from dataflow.observability.redaction import redact


def configure(level: str, *, environment: str = "", stream: TextIO | None = None) -> None:
    """Log from `level` (debug, info, warning or error) upwards to `stream`, or standard output.

    Every line carries `environment`, unless that is empty. Replaces what was configured before,
    so that it can be called again.
    """
    stream = sys.stdout if stream is None else stream
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_in_environment(environment)] if environment else []),
    ]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[
                ProcessorFormatter.remove_processors_meta,
                *(_for_people() if stream.isatty() else _for_machines()),
            ],
        )
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.PositionalArgumentsFormatter(),
            ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _in_environment(name: str) -> Processor:
    # Not a context variable of structlog: those are each thread's own.
    def add(_logger: WrappedLogger, _method: str, entry: EventDict) -> EventDict:
        entry.setdefault("environment", name)
        return entry

    return add


def _for_machines() -> list[Processor]:
    # Tracebacks without local variables: those are where payloads and passwords are.
    transformer = ExceptionDictTransformer(show_locals=False)
    return [ExceptionRenderer(transformer), redact, structlog.processors.JSONRenderer()]


def _for_people() -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(
        # The default prints local variables where rich is installed.
        exception_formatter=structlog.dev.plain_traceback,
    )
    # The traceback becomes a text first, so that it is masked as well.
    return [structlog.processors.format_exc_info, redact, renderer]

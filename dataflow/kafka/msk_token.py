"""Tokens for Amazon MSK: a request that AWS's own library signs with the credentials it finds.

The library is an extra of the package (`payments-dataflow[msk]`). Where it finds credentials is its
business: the pod's role (IRSA, Pod Identity), the instance's, or `AWS_*` variables.
"""

import importlib
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any

import structlog

from dataflow.errors import SettingsError

_log = structlog.get_logger()

_LIBRARY = "aws_msk_iam_sasl_signer.MSKAuthTokenProvider"
_SHARED_S = 60.0
"""The time for which all clients get the same token. Each lives for 15 minutes, and costs a call of
AWS's token service where the credentials are a role's: a start has dozens of clients."""

Token = tuple[str, float]
"""A token, and when it expires as Unix time in seconds."""


@cache
def signer(region: str) -> Callable[[str | None], Token]:
    """Return the callback that librdkafka calls for a token, and again before that expires.

    Raises:
        SettingsError: The library is not installed.
    """
    try:
        provider: Any = importlib.import_module(_LIBRARY)
    except ImportError as error:
        problem = (
            "KAFKA_SASL_MECHANISM: AWS_MSK_IAM needs the extra `msk`, which is not installed"
            f" ({error}); example: pip install 'payments-dataflow[msk]'"
        )
        raise SettingsError([problem]) from error
    one_at_a_time = threading.Lock()
    last: tuple[Token, float] | None = None

    def token(_config: str | None) -> Token:
        nonlocal last
        with one_at_a_time:
            now_s = time.monotonic()
            if last is None or now_s - last[1] > _SHARED_S:
                last = _signed(provider, region), now_s
            return last[0]

    return token


def _signed(provider: Any, region: str) -> Token:
    try:
        signed, expires_ms = provider.generate_auth_token(region)
    except Exception as error:
        # librdkafka replaces it by a text of its own, and tries again in ten seconds.
        reason = f"{type(error).__name__}: {error}"
        _log.warning("no token for MSK: are there AWS credentials?", error=reason)
        raise
    return signed, expires_ms / 1000

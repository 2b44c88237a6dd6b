"""Says with the answer to a health check who answers, its version, what time it is
there, and when its certificate ends.

In the metadata, where a stock client sees it too and nobody needs it. `tinyfleet doctor` compares
version and clock with its own, and warns of certificates that end.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import grpc

import tinyfleet
from tinyfleet.introduced import (
    CERTIFICATE_METADATA,
    SERVICE_METADATA,
    TIME_METADATA,
    VERSION_METADATA,
)
from tinyfleet.security.folder import expiry

_CHECK = "/grpc.health.v1.Health/Check"


class Introduction(grpc.aio.ServerInterceptor):
    """Introduces the service `name`; tls: the folder of its certificate."""

    def __init__(self, name: str, tls: Path | None = None) -> None:
        self._name = name
        self._tls = tls

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method != _CHECK:
            return handler

        async def check(request: Any, context: Any) -> Any:
            context.set_trailing_metadata(self._said())
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            check,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _said(self) -> tuple[tuple[str, str], ...]:
        said = (
            (SERVICE_METADATA, self._name),
            (VERSION_METADATA, tinyfleet.__version__),
            (TIME_METADATA, f"{time.time():.6f}"),
        )
        ends_s = expiry(self._tls)
        return said if ends_s is None else (*said, (CERTIFICATE_METADATA, str(ends_s)))

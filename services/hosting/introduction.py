"""Says with the answer to a health check who answers, its version, and what time it is there.

In the metadata, where a stock client sees it too and nobody needs it. `tinyfleet doctor` compares
version and clock with its own.
"""

from __future__ import annotations

import time
from typing import Any

import grpc

import tinyfleet
from tinyfleet.introduced import SERVICE_METADATA, TIME_METADATA, VERSION_METADATA

_CHECK = "/grpc.health.v1.Health/Check"


class Introduction(grpc.aio.ServerInterceptor):
    """Introduces the service `name`."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method != _CHECK:
            return handler

        async def check(request: Any, context: Any) -> Any:
            context.set_trailing_metadata(
                (
                    (SERVICE_METADATA, self._name),
                    (VERSION_METADATA, tinyfleet.__version__),
                    (TIME_METADATA, f"{time.time():.6f}"),
                )
            )
            return await handler.unary_unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            check,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

"""Turns what handlers raise into what gRPC sends, by the table in `errors`.

gRPC keeps a call that was aborted, with all that its frames hold, until Python collects garbage. So
it is aborted after the error is gone, whose traceback has the request.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from services.hosting.access import ANSWERED
from services.hosting.errors import status_of


class ErrorTranslator(grpc.aio.ServerInterceptor):
    """Turns the errors that handlers raise into gRPC statuses, by the table in `errors`."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None or details.method.startswith("/grpc."):
            return handler
        if handler.response_streaming:
            wrap, kind = _translated_stream, "unary_stream"
        else:
            wrap, kind = _translated_unary, "unary_unary"
        if handler.request_streaming:
            kind = kind.replace("unary_", "stream_", 1)
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(
            wrap(getattr(handler, kind)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _translated_unary(method: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            return await method(request, context)
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the table decides, the rest is logged
            status, text = _ending(error)
        return await _end(context, status, text)

    return call


def _translated_stream(method: Any) -> Any:
    async def call(request: Any, context: Any) -> Any:
        try:
            async for response in method(request, context):
                yield response
            return
        except grpc.aio.AbortError:
            raise
        except Exception as error:  # noqa: BLE001 - the table decides, the rest is logged
            status, text = _ending(error)
        await _end(context, status, text)

    return call


def _ending(error: Exception) -> tuple[grpc.StatusCode, str]:
    """How the call ends; one whose caller is gone is cancelled: nobody listens."""
    if isinstance(error, grpc.aio.InternalError):
        raise asyncio.CancelledError from None
    return status_of(error)


async def _end(context: Any, status: grpc.StatusCode, text: str) -> None:
    try:
        await context.abort(status, text, ((ANSWERED, "1"),))
    except grpc.aio.InternalError:
        raise asyncio.CancelledError from None

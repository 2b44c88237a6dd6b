"""Counts the RPCs of a service, under the names that gRPC's other Prometheus interceptors use.

Health checks and reflection, the services `grpc.*`, are not counted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import grpc

from tinyfleet.exposition.text import Counts, Family, Histogram

# Our choice: a round's calls take a millisecond or less, one that waits for the disk some more.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LABELS = ("grpc_service", "grpc_method")
_UNKNOWN = ("unknown", "unknown")  # names that callers made up would fill the memory


class RpcCounts(grpc.aio.ServerInterceptor):
    """To be the outermost interceptor, so that it counts what the others refuse as well."""

    def __init__(self) -> None:
        self._started = Counts("grpc_server_started_total", "RPCs that have begun.", *_LABELS)
        self._handled = Counts(
            "grpc_server_handled_total", "RPCs that have ended.", *_LABELS, "grpc_code"
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds", "Time of RPCs with one answer.", SECONDS, *_LABELS
        )

    def families(self) -> Iterator[Family]:
        """All counts, as they are now."""
        for counted in (self._started, self._handled, self._seconds):
            yield counted.family()

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        handler = await continuation(details)
        if handler is None:
            self._started.add(*_UNKNOWN)
            self._handled.add(*_UNKNOWN, "UNIMPLEMENTED")
            return None
        if details.method.startswith("/grpc."):
            return handler
        service, _, method = details.method.lstrip("/").partition("/")
        requests = "stream" if handler.request_streaming else "unary"
        responses = "stream" if handler.response_streaming else "unary"
        wrap = self._stream if handler.response_streaming else self._unary
        timed = responses == "unary"
        behave = wrap(getattr(handler, f"{requests}_{responses}"), (service, method), timed)
        return getattr(grpc, f"{requests}_{responses}_rpc_method_handler")(
            behave,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _unary(self, behave: Any, name: tuple[str, str], timed: bool) -> Any:
        async def call(request: Any, context: Any) -> Any:
            with _Call(self, name, context, timed):
                return await behave(request, context)

        return call

    def _stream(self, behave: Any, name: tuple[str, str], timed: bool) -> Any:
        async def call(request: Any, context: Any) -> Any:
            with _Call(self, name, context, timed):
                async for response in behave(request, context):
                    yield response

        return call

    def begin(self, name: tuple[str, str]) -> None:
        """An RPC begins."""
        self._started.add(*name)

    def end(self, name: tuple[str, str], code: str, seconds: float | None) -> None:
        """It has ended; seconds: of those that are timed."""
        self._handled.add(*name, code)
        if seconds is not None:
            self._seconds.observe(seconds, *name)


class _Call:
    """One RPC, from its beginning to its end."""

    def __init__(self, counts: RpcCounts, name: tuple[str, str], context: Any, timed: bool) -> None:
        self._counts, self._name, self._context, self._timed = counts, name, context, timed

    def __enter__(self) -> None:
        self._counts.begin(self._name)
        self._began = time.perf_counter()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        seconds = time.perf_counter() - self._began if self._timed else None
        self._counts.end(self._name, self._code(kind), seconds)

    def _code(self, kind: type[BaseException] | None) -> str:
        code = self._context.code()
        if isinstance(code, grpc.StatusCode) and code is not grpc.StatusCode.OK:
            return code.name
        if isinstance(code, int) and code:  # grpc.aio gives the number that was set
            return next((one.name for one in grpc.StatusCode if one.value[0] == code), "UNKNOWN")
        if kind is None:
            return "OK"
        cancelled = not issubclass(kind, Exception)  # CancelledError, GeneratorExit
        return "CANCELLED" if cancelled else "UNKNOWN"

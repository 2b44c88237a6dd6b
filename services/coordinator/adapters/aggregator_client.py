"""The aggregator over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn

import grpc

from services.coordinator.ports import (
    AggregatorRefused,
    AggregatorUnavailable,
    Ended,
    ModelUnknown,
)
from services.coordinator.work import ClosedRound, ModelChange, RefusedUpdate, Totals
from services.hosting.grants import Grants
from tinyfleet.errors import InvalidInput
from tinyfleet.security.channels import Line
from tinyfleet.security.handshakes import explained
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc, model_pb2

CALL_S = 30.0  # our choice: making or storing a model of the largest size takes seconds
_REFUSALS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
    # We pause between attempts ourselves: the channel must be ready to try when we are.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Finds a machine that vanished; the server allows pings this often.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)


class AggregatorClient:
    """A client of the AggregatorService at `address`. Made inside a running event loop."""

    def __init__(self, address: str, grants: Grants, tls: Path | None = None) -> None:
        """grants: what the runs' keys come from. tls: folder of the coordinator's certificate."""
        self._address = address
        self._grants = grants
        self._line = Line(address, "aggregator", tls, _OPTIONS)

    @property
    def address(self) -> str:
        return self._address

    async def open_run(self, run_id: str, spec: bytes) -> None:
        message = model_pb2.RunSpec.FromString(spec)
        request = aggregator_pb2.OpenRunRequest(
            run_id=run_id, spec=message, grant_key=self._grants.key(run_id)
        )
        stub = self._stub()
        try:
            await stub.OpenRun(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            _raise(error)

    async def watch(self, run_id: str) -> AsyncIterator[ModelChange]:
        stub = self._stub()
        call = stub.WatchModel(aggregator_pb2.WatchModelRequest(run_id=run_id))
        whole = True
        try:
            while (message := await call.read()) is not grpc.aio.EOF:
                yield _change(message, whole)
                whole = False
        except grpc.aio.AioRpcError as error:
            _raise(error)
        finally:
            call.cancel()

    async def end_run(self, run_id: str) -> Ended:
        request = aggregator_pb2.EndRunRequest(run_id=run_id)
        stub = self._stub()
        try:
            answer = await stub.EndRun(request, timeout=CALL_S)
        except grpc.aio.AioRpcError as error:
            _raise(error)
        return Ended(answer.version, answer.parameters_sha256)

    async def close(self) -> None:
        await self._line.aclose()

    def _stub(self) -> aggregator_pb2_grpc.AggregatorServiceStub:
        """The stub to make the next call with; a certificate that is missing now may come back."""
        try:
            return aggregator_pb2_grpc.AggregatorServiceStub(self._line.channel())
        except InvalidInput as error:
            raise AggregatorUnavailable(str(error)) from None


def _change(message: aggregator_pb2.WatchModelResponse, whole: bool) -> ModelChange:
    return ModelChange(
        version=message.version,
        parameters=message.parameters,
        received=message.received_slots,
        open_slots=message.open_slots,
        refused=[
            RefusedUpdate(one.assignment_id, one.reason, one.stale) for one in message.refused
        ],
        closed=[_closed(one) for one in message.closed],
        ended=message.ended,
        whole=whole,
        totals=_totals(message.totals),
        problem=message.problem,
    )


def _totals(message: aggregator_pb2.RunTotals) -> Totals:
    return Totals(
        updates=message.updates,
        samples=message.samples,
        bytes_up=message.bytes_up,
        diverged=message.diverged,
        bytes_down=message.bytes_down,
    )


def _closed(message: aggregator_pb2.ClosedRound) -> ClosedRound:
    return ClosedRound(
        round=message.round,
        updates=message.updates,
        loss=message.loss,
        samples=message.samples,
        bytes_up=message.bytes_up,
        slowest_training_s=message.slowest_training_us / 1e6,
        diverged=message.diverged,
        staleness=message.staleness,
    )


def _raise(error: grpc.aio.AioRpcError) -> NoReturn:
    details = error.details() or ""
    reason = explained(details) or details or error.code().name
    if error.code() is grpc.StatusCode.NOT_FOUND:
        raise ModelUnknown(reason) from None
    if error.code() in _REFUSALS:
        raise AggregatorRefused(reason) from None
    raise AggregatorUnavailable(reason) from None

"""Fetches the parameters of a model that is too large to travel inside an assignment."""

from __future__ import annotations

import grpc
import numpy as np

from edge_agents.channel import Lost, lost_calls
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.model.spec import Parameters
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc


async def fetch_parameters(
    channel: grpc.aio.Channel, run_id: str, version: int, exchange: Exchange
) -> Parameters:
    """`(exchange.count,) float32`, what is shared of it; chunks go straight to their place.

    Raises Lost when the call ends early, InvalidInput when what comes is not that model.
    """
    buffer = bytearray(exchange.parameter_bytes)
    filled = 0
    request = aggregator_pb2.FetchModelRequest(
        run_id=run_id, version=version, shared_only=not exchange.is_whole
    )
    with lost_calls():
        call = aggregator_pb2_grpc.AggregatorServiceStub(channel).FetchModel(request)
        while (chunk := await call.read()) is not grpc.aio.EOF:
            data = chunk.data
            _check(chunk, version, filled + len(data), len(buffer))
            buffer[filled : filled + len(data)] = data
            filled += len(data)
    if filled != len(buffer):
        raise Lost(f"the model ended after {filled} of {len(buffer)} bytes")
    return np.frombuffer(buffer, "<f4").astype(np.float32, copy=False)


def _check(
    chunk: aggregator_pb2.FetchModelResponse, version: int, filled: int, expected: int
) -> None:
    if chunk.version != version:
        raise InvalidInput(f"asked for version {version} of the model, got {chunk.version}")
    if chunk.total_bytes != expected or filled > expected:
        raise InvalidInput(
            f"the model has {expected} bytes, the aggregator sends {max(chunk.total_bytes, filled)}"
        )

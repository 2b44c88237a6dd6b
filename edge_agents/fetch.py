"""Fetches what does not travel inside an assignment: the start of a large model, a run's files."""

from __future__ import annotations

import grpc

from edge_agents.channel import Lost, lost_calls
from tinyfleet.codec.start import Start
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.run_files import Arriving, RunFile
from tinyfleet.v1 import aggregator_pb2, aggregator_pb2_grpc


async def fetch_start(
    channel: grpc.aio.Channel, run_id: str, version: int | None, exchange: Exchange
) -> tuple[Start, int]:
    """The start that is `version` of the model, and that version; None asks for the newest.

    Chunks go straight to their place. Raises Lost when the call ends early, InvalidInput when what
    comes is not that model.
    """
    buffer = bytearray(exchange.starts.whole_bytes)
    filled, sent = 0, version
    request = aggregator_pb2.FetchModelRequest(
        run_id=run_id, version=version, shared_only=not exchange.start_is_model
    )
    with lost_calls():
        call = aggregator_pb2_grpc.AggregatorServiceStub(channel).FetchModel(request)
        while (chunk := await call.read()) is not grpc.aio.EOF:
            data = chunk.data
            sent = chunk.version if sent is None else sent
            _check(chunk, sent, filled + len(data), len(buffer))
            buffer[filled : filled + len(data)] = data
            filled += len(data)
    if sent is None or filled != len(buffer):
        raise Lost(f"the model ended after {filled} of {len(buffer)} bytes")
    return exchange.starts.read_whole(buffer), sent


async def fetch_file(channel: grpc.aio.Channel, file: RunFile) -> bytes:
    """The content of a file. Raises Lost and InvalidInput as `fetch_start` does."""
    arriving = Arriving(file)
    request = aggregator_pb2.FetchFileRequest(sha256=file.sha256)
    with lost_calls():
        call = aggregator_pb2_grpc.AggregatorServiceStub(channel).FetchFile(request)
        while (part := await call.read()) is not grpc.aio.EOF:
            if arriving.add(part.data):
                break
    return arriving.content()


def _check(
    chunk: aggregator_pb2.FetchModelResponse, version: int, filled: int, expected: int
) -> None:
    if chunk.version != version:
        raise InvalidInput(f"asked for version {version} of the model, got {chunk.version}")
    if chunk.total_bytes != expected or filled > expected:
        raise InvalidInput(
            f"the model has {expected} bytes, the aggregator sends {max(chunk.total_bytes, filled)}"
        )

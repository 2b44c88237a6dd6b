"""Every RPC is counted with its end, and no caller can fill the memory with names."""

import asyncio

import grpc
import pytest

from services.hosting.errors import NotFound
from services.hosting.rpc_counts import RpcCounts
from services.hosting.server import ErrorTranslator
from tinyfleet.exposition.text import text_of


async def good(request, context):
    return request


async def missing(request, context):
    raise NotFound("no")


async def stream(request, context):
    yield request
    await asyncio.Event().wait()


@pytest.fixture
async def counted():
    counts = RpcCounts()
    server = grpc.aio.server(interceptors=[counts, ErrorTranslator()])
    handlers = {
        "Good": grpc.unary_unary_rpc_method_handler(good),
        "Missing": grpc.unary_unary_rpc_method_handler(missing),
        "Other": grpc.unary_unary_rpc_method_handler(good),
        "Stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo.Demo", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield counts, channel
    await server.stop(0)


def lines(counts):
    return set(text_of(counts.families()).splitlines())


async def test_calls_are_counted_by_method_and_status(counted):
    counts, channel = counted
    assert await channel.unary_unary("/demo.Demo/Good")(b"x") == b"x"
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/demo.Demo/Missing")(b"x")
    demo = 'grpc_service="demo.Demo",grpc_method='
    expected = {
        f'grpc_server_started_total{{{demo}"Good"}} 1',
        f'grpc_server_handled_total{{{demo}"Good",grpc_code="OK"}} 1',
        f'grpc_server_handled_total{{{demo}"Missing",grpc_code="NOT_FOUND"}} 2',
        f'grpc_server_handling_seconds_count{{{demo}"Missing"}} 2',
    }
    async with asyncio.timeout(30):  # a caller may hear of the end before it is counted
        while not expected <= lines(counts):
            await channel.unary_unary("/demo.Demo/Other")(b"x")


async def test_a_stream_counts_when_it_begins_and_when_it_ends(counted):
    counts, channel = counted
    call = channel.unary_stream("/demo.Demo/Stream")(b"x")
    assert await call.read() == b"x"
    demo = 'grpc_service="demo.Demo",grpc_method="Stream"'
    assert f"grpc_server_started_total{{{demo}}} 1" in lines(counts)
    assert not any("handled" in line and "Stream" in line for line in lines(counts))
    call.cancel()
    ended = f'grpc_server_handled_total{{{demo},grpc_code="CANCELLED"}} 1'
    async with asyncio.timeout(30):
        while ended not in lines(counts):
            await channel.unary_unary("/demo.Demo/Good")(b"x")
    assert not any("handling_seconds" in line and "Stream" in line for line in lines(counts))


async def test_methods_that_callers_make_up_are_one(counted):
    counts, channel = counted
    for number in range(3):
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(f"/demo.Demo/No{number}")(b"x")
    unknown = 'grpc_service="unknown",grpc_method="unknown"'
    assert f'grpc_server_handled_total{{{unknown},grpc_code="UNIMPLEMENTED"}} 3' in lines(counts)
    assert not any("No0" in line for line in lines(counts))

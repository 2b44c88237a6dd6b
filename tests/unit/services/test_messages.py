"""Messages that are refused cost nobody memory for long."""

import contextlib
import gc
import weakref

import grpc
import pytest

from services.hosting.messages import only_message
from services.hosting.rpc_counts import RpcCounts
from services.hosting.translation import ErrorTranslator
from tinyfleet.errors import InvalidInput

KNOWN = weakref.WeakSet()


class Message:
    """What a deserializer makes, and which tells whether it is still there."""

    def __init__(self, data):
        KNOWN.add(self)


async def refuse(message):
    raise InvalidInput("mend it")


async def handle(requests, context):
    await refuse(await only_message(requests))


@contextlib.asynccontextmanager
async def served():
    """A channel to a service that refuses, with what stands before the handlers of all."""
    server = grpc.aio.server(interceptors=[RpcCounts(), ErrorTranslator()])
    handler = grpc.stream_unary_rpc_method_handler(handle, Message, bytes)
    generic = grpc.method_handlers_generic_handler("demo.Demo", {"Refused": handler})
    server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@pytest.fixture
def _no_collection():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("_no_collection")
async def test_a_message_is_gone_with_the_call_that_was_refused():
    async with served() as channel:
        with pytest.raises(grpc.aio.AioRpcError, match="mend it"):
            await channel.unary_unary("/demo.Demo/Refused")(b"x")
    assert not list(KNOWN)

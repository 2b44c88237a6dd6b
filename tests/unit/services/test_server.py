"""What every service owes its operator: loopback only, health, reflection, clear errors, an end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from services.hosting.errors import Conflict, NotFound, NotReady, Occupied, StorageFailed
from services.hosting.server import Service, check_listen, serving
from services.hosting.settings import ServiceSettings
from tinyfleet.config import setting
from tinyfleet.errors import InvalidInput
from tinyfleet.v1 import metrics_pb2

NAME = metrics_pb2.DESCRIPTOR.services_by_name["MetricsService"].full_name


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    listen: str = setting("127.0.0.1:0", help="where")


async def nothing():
    pass


def methods(calls):
    """A service `demo.Demo` whose methods are the given coroutine functions."""

    def register(server):
        handlers = {name: make(call) for name, (make, call) in calls.items()}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("demo.Demo", handlers),)
        )

    return register


def a_service(calls=None, **options):
    return Service(
        names=[NAME],
        register=methods(calls or {}),
        start=nothing,
        close=nothing,
        **options,
    )


def raising(error):
    async def unary(request, context):
        raise error

    async def stream(request, context):
        yield b"first"
        raise error

    async def both(requests, context):
        assert await anext(aiter(requests)) == b"x"
        yield b"first"
        raise error

    async def up(requests, context):
        assert [request async for request in requests] == [b"x"]
        raise error

    return {
        "Unary": (grpc.unary_unary_rpc_method_handler, unary),
        "Stream": (grpc.unary_stream_rpc_method_handler, stream),
        "Up": (grpc.stream_unary_rpc_method_handler, up),
        "Both": (grpc.stream_stream_rpc_method_handler, both),
    }


@contextlib.asynccontextmanager
async def reached(settings, service):
    """A channel to the service while it is served."""
    async with serving(settings, service) as address, grpc.aio.insecure_channel(address) as channel:
        yield channel


async def calls_of(channel, kind):
    """The status and text that a call of this kind ends with."""
    call = {
        "Unary": lambda: channel.unary_unary("/demo.Demo/Unary")(b"x"),
        "Stream": lambda: channel.unary_stream("/demo.Demo/Stream")(b"x"),
        "Up": channel.stream_unary("/demo.Demo/Up"),
        "Both": channel.stream_stream("/demo.Demo/Both"),
    }[kind]()
    if kind in ("Up", "Both"):
        # All is sent before the end can come: grpc.aio takes a write that fails for the status.
        await call.write(b"x")
    if kind == "Up":
        await call.done_writing()
    if kind in ("Stream", "Both"):
        assert await call.read() == b"first"
        with contextlib.suppress(grpc.aio.AioRpcError):
            await call.read()
    return await call.code(), await call.details()


@pytest.mark.parametrize("kind", ["Unary", "Stream", "Up", "Both"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("mend it"), grpc.StatusCode.INVALID_ARGUMENT),
        (NotFound("mend it"), grpc.StatusCode.NOT_FOUND),
        (Conflict("mend it"), grpc.StatusCode.ALREADY_EXISTS),
        (NotReady("mend it"), grpc.StatusCode.FAILED_PRECONDITION),
        (StorageFailed("mend it"), grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_an_error_becomes_its_status_in_every_kind_of_call(kind, error, status):
    async with reached(Settings(), a_service(raising(error))) as channel:
        assert await calls_of(channel, kind) == (status, "mend it")


@pytest.mark.parametrize("kind", ["Unary", "Stream", "Up", "Both"])
async def test_an_unexpected_error_is_hidden(kind, caplog):
    async with reached(Settings(), a_service(raising(RuntimeError("secret")))) as channel:
        status, text = await calls_of(channel, kind)
    assert status is grpc.StatusCode.INTERNAL
    assert "secret" not in text
    assert "RuntimeError: secret" in caplog.text


async def test_a_status_that_a_handler_chose_stays():
    async def unary(request, context):
        await context.abort(grpc.StatusCode.ABORTED, "replaced")

    calls = {"Unary": (grpc.unary_unary_rpc_method_handler, unary)}
    async with reached(Settings(), a_service(calls)) as channel:
        assert await calls_of(channel, "Unary") == (grpc.StatusCode.ABORTED, "replaced")


async def health_of(channel, name):
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status


async def test_health_answers_for_the_server_and_each_service():
    async with reached(Settings(), a_service()) as channel:
        for name in ("", NAME):
            assert await health_of(channel, name) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "nobody")
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_follows_the_service():
    reports = []
    async with reached(Settings(), a_service(report_health=reports.append)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=NAME))
        states = [(await watch.read()).status]
        for serving_now in (False, True):
            reports[0](serving_now)
            states.append((await watch.read()).status)
        watch.cancel()
    assert states == [1, 2, 1]


async def test_reflection_describes_the_service():
    async with reached(Settings(), a_service()) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        listed = await call.read()
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=NAME))
        described = await call.read()
        await call.done_writing()
    names = {service.name for service in listed.list_services_response.service}
    assert {NAME, "grpc.health.v1.Health"} <= names
    assert len(described.file_descriptor_response.file_descriptor_proto) > 0


async def test_a_port_that_is_taken_is_said_so():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(Occupied, match=f"cannot listen on {taken}: the port is taken"):
            async with serving(Settings(listen=taken), a_service()):
                pass


@pytest.mark.parametrize("address", ["127.0.0.1:7311", "127.8.9.1:0", "localhost:1", "[::1]:65535"])
def test_loopback_is_allowed(address):
    check_listen(address, None)


@pytest.mark.parametrize(
    "address",
    ["0.0.0.0:7311", "[::]:7311", ":7311", "192.168.1.1:1", "10.0.0.1:1", "example.org:1", "::1:x"],
)
def test_anything_else_is_refused(address):
    with pytest.raises(InvalidInput, match=r"without TLS|host:port"):
        check_listen(address, None)


@pytest.mark.parametrize(
    "address", ["", "7311", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:²", "h:-1"]
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidInput, match="host:port"):
        check_listen(address, None)


async def test_open_streams_are_ended_by_the_service_and_not_waited_for():
    ended = asyncio.Event()

    async def stream(request, context):
        yield b"first"
        await ended.wait()
        yield b"last"

    async def drain():
        ended.set()

    calls = {"Stream": (grpc.unary_stream_rpc_method_handler, stream)}
    begun = None
    async with serving(Settings(drain_s=60), a_service(calls, drain=drain)) as address:
        channel = grpc.aio.insecure_channel(address)
        call = channel.unary_stream("/demo.Demo/Stream")(b"x")
        assert await call.read() == b"first"
        begun = time.monotonic()
    assert time.monotonic() - begun < 30
    assert await call.read() == b"last"
    await channel.close()


async def test_a_call_that_does_not_end_is_cut_off_after_the_drain():
    async def stream(request, context):
        yield b"first"
        await asyncio.Event().wait()

    calls = {"Stream": (grpc.unary_stream_rpc_method_handler, stream)}
    async with serving(Settings(drain_s=0.05), a_service(calls)) as address:
        channel = grpc.aio.insecure_channel(address)
        call = channel.unary_stream("/demo.Demo/Stream")(b"x")
        await call.read()
    assert await call.code() is not grpc.StatusCode.OK
    await channel.close()


PROGRAM = textwrap.dedent(
    """
    import logging, sys
    from dataclasses import dataclass
    from services.hosting import server
    from services.hosting.settings import ServiceSettings
    from tinyfleet.config import setting
    from tinyfleet.errors import InvalidInput

    @dataclass(frozen=True, kw_only=True)
    class Settings(ServiceSettings):
        listen: str = setting("127.0.0.1:0", help="where")
        fault: str = setting("none", help="what breaks", choices=("none", "start"))

    def build(settings):
        async def start():
            if settings.fault == "start":
                raise InvalidInput("this cannot work: change it")
        async def close():
            logging.getLogger("demo").info("closed")
        return server.Service([], lambda _: None, start, close)

    server.main("demo", "A demo.", Settings, build)
    """
)


def started(*flags, folder):
    command = [sys.executable, "-c", PROGRAM, "--port-file", str(folder / "port"), *flags]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def finished(process):
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_cleanly(number, tmp_path):
    process = started(folder=tmp_path)
    for _ in range(2000):
        if (tmp_path / "port").exists():
            break
        time.sleep(0.01)
    address = (tmp_path / "port").read_text()
    assert address.startswith("127.0.0.1:")
    assert address.endswith("\n")
    process.send_signal(number)
    status, out, err = finished(process)
    assert (status, out) == (0, "")
    phrases = [line.split(maxsplit=2)[2].partition(" address=")[0] for line in err.splitlines()]
    assert phrases == ["hosting listening", "hosting stopping", "demo closed"]


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        (["--listen", "0.0.0.0:1"], 2, "without TLS"),
        (["--lisetn", "x"], 2, "unrecognized arguments"),
        (["--drain-s", "-5"], 2, "--drain-s must be at least 0"),
        (["--fault", "start"], 2, "this cannot work: change it"),
        (["--port-file", "/nowhere/port"], 2, "cannot write port file /nowhere/port: No such file"),
    ],
)
def test_what_cannot_work_ends_with_one_line_and_a_status(flags, status, words, tmp_path):
    code, out, err = finished(started(*flags, folder=tmp_path))
    assert (code, out) == (status, "")
    assert "Traceback" not in err
    assert words in err.splitlines()[-1]
    assert err.splitlines()[-1].startswith("tinyfleet-demo: ")


def test_a_taken_port_has_its_own_exit_status(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        code, _, err = finished(started("--listen", taken, folder=tmp_path))
    assert code == 3
    assert f"cannot listen on {taken}" in err
    assert "Traceback" not in err

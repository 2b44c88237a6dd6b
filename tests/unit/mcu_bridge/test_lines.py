"""Lines: what URLs mean, bytes over terminals and TCP unchanged, one program at a time."""

import asyncio
import builtins
import contextlib
import os
import pty
import shutil
import sys

import pytest

from mcu_bridge import images
from mcu_bridge.errors import LineLost
from mcu_bridge.lines import open_line, parse_url
from mcu_bridge.lines.emulated import HostBoard
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError

ALL_BYTES = bytes(range(256)) * 4


@pytest.fixture
def terminal():
    """A pseudo-terminal: the far end's descriptor, and the path of ours."""
    far, near = pty.openpty()
    path = os.ttyname(near)
    os.close(near)
    os.set_blocking(far, False)
    yield far, path
    with contextlib.suppress(OSError):
        os.close(far)


async def read_all(line, count):
    data = b""
    async with asyncio.timeout(2):
        while len(data) < count:
            data += await line.read()
    return data


async def far_read(far, count):
    data = b""
    async with asyncio.timeout(2):
        while len(data) < count:
            with contextlib.suppress(BlockingIOError):
                data += os.read(far, 65536)
            await asyncio.sleep(0.001)
    return data


# ---- URLs


@pytest.mark.parametrize(
    ("url", "kind", "target", "port", "baud"),
    [
        ("serial:///dev/ttyACM0", "serial", "/dev/ttyACM0", 0, 1_000_000),
        ("serial:///dev/ttyUSB1?baud=115200", "serial", "/dev/ttyUSB1", 0, 115_200),
        ("pty:///dev/pts/3", "pty", "/dev/pts/3", 0, 1_000_000),
        ("/dev/serial/by-id/usb-x", "pty", "/dev/serial/by-id/usb-x", 0, 1_000_000),
        ("tcp://[::1]:4000", "tcp", "::1", 4000, 1_000_000),
        ("emulated://mps2-an386", "emulated", "mps2-an386", 0, 1_000_000),
    ],
)
def test_a_url_names_a_line(url, kind, target, port, baud):
    line = parse_url(url)
    assert (line.kind, line.target, line.port, line.baud) == (kind, target, port, baud)
    assert line.text == url


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "must start with one of serial://"),
        ("ttyACM0", "must start with one of serial://"),
        ("usb:///dev/x", "must start with one of serial://"),
        ("serial://dev/ttyACM0", "a path has three slashes"),
        ("serial:///", "a path has three slashes"),
        ("serial:///dev/ttyACM0?baud=fast", "baud is from 300"),
        ("serial:///dev/ttyACM0?baud=1", "baud is from 300"),
        ("serial:///dev/ttyACM0?baud=", "baud is from 300"),
        ("serial:///dev/ttyACM0?bud=9600", "did you mean 'baud'"),
        ("pty:///dev/pts/3?baud=9600", "pty:// takes no options"),
        ("tcp://host", "must be tcp://host:port"),
        ("tcp://:4000", "must be tcp://host:port"),
        ("tcp://host:99999", "is not the URL of a board"),
        ("tcp://host:4000/path", "must be tcp://host:port"),
        ("emulated://mps2-an385", "did you mean 'mps2-an386'"),
        ("emulated://host/x", "unknown emulated board"),
        ("serial:///dev/tty\nACM0", "characters that do not print"),
        ("pty:///" + "x" * 2000, "too long"),
    ],
)
def test_a_bad_url_is_refused_in_one_line(url, message):
    with pytest.raises(InvalidInput, match=message) as refused:
        parse_url(url)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


# ---- terminals


@pytest.mark.parametrize("scheme", ["pty://", "", "serial://"])
async def test_a_terminal_carries_all_bytes_unchanged(terminal, scheme):
    far, path = terminal
    line = await open_line(scheme + path)
    assert line.name == scheme + path
    await line.write(ALL_BYTES)
    assert await far_read(far, len(ALL_BYTES)) == ALL_BYTES
    os.write(far, ALL_BYTES)
    assert await read_all(line, len(ALL_BYTES)) == ALL_BYTES
    await line.close()


async def test_a_serial_port_gets_its_speed(terminal):
    import termios

    far, path = terminal
    line = await open_line(f"serial://{path}?baud=230400")
    assert termios.tcgetattr(far)[5] == termios.B230400
    await line.close()


@pytest.mark.parametrize("first", ["pty://", "serial://"])
@pytest.mark.parametrize("second", ["pty://", "serial://"])
async def test_a_board_serves_one_program_at_a_time(terminal, first, second):
    _, path = terminal
    line = await open_line(first + path)
    with pytest.raises(Refused, match="is in use by another program; a board serves one"):
        await open_line(second + path)
    await line.close()
    await (await open_line(second + path)).close()


@pytest.mark.parametrize("scheme", ["pty://", "serial://"])
async def test_an_unplugged_board_is_a_lost_line(terminal, scheme):
    far, path = terminal
    line = await open_line(scheme + path)
    asyncio.get_running_loop().call_later(0.02, os.close, far)
    with pytest.raises(LineLost, match="the board is gone; plug it in again"):
        await line.read()
    with pytest.raises(LineLost, match="plug it in again"):
        await line.write(b"x")
    await line.close()


@pytest.mark.parametrize("scheme", ["pty://", "serial://"])
async def test_a_missing_board_is_a_lost_line(scheme):
    with pytest.raises(LineLost, match="/dev/no-such-board is not there; plug the board in"):
        await open_line(f"{scheme}/dev/no-such-board")


@pytest.mark.parametrize("scheme", ["pty://", "serial://"])
async def test_a_file_is_no_board(tmp_path, scheme):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(TinyFleetError, match=r"is not a serial port|cannot be opened"):
        await open_line(f"{scheme}{tmp_path}/file")


async def test_without_pyserial_the_extra_is_named(terminal, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "serial":
            raise ModuleNotFoundError(name="serial")
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "serial", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InvalidInput, match=r"pip install 'tinyfleet\[mcu\]'"):
        await open_line(f"serial://{terminal[1]}")


async def test_a_full_terminal_makes_the_writer_wait(terminal):
    far, path = terminal
    line = await open_line(path)
    content = os.urandom(200_000)
    writing = asyncio.create_task(line.write(content))
    await asyncio.sleep(0.02)
    assert not writing.done()
    assert await far_read(far, len(content)) == content
    await writing
    await line.close()


async def test_closing_ends_a_waiting_reader(terminal):
    line = await open_line(terminal[1])
    reading = asyncio.create_task(line.read())
    await asyncio.sleep(0.01)
    await line.close()
    await line.close()
    with pytest.raises(LineLost):
        await reading


async def test_closing_ends_a_waiting_writer(terminal):
    line = await open_line(terminal[1])
    writing = asyncio.create_task(line.write(bytes(200_000)))
    await asyncio.sleep(0.01)
    await line.close()
    with pytest.raises(LineLost):
        async with asyncio.timeout(1):
            await writing


# ---- TCP


async def test_tcp_carries_all_bytes_and_its_end():
    async def echo(reader, writer):
        writer.write(await reader.readexactly(len(ALL_BYTES)))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    line = await open_line(f"tcp://127.0.0.1:{port}")
    await line.write(ALL_BYTES)
    assert await read_all(line, len(ALL_BYTES)) == ALL_BYTES
    with pytest.raises(LineLost, match="the connection has ended"):
        await line.read()
    await line.close()
    server.close()
    await server.wait_closed()


async def test_nobody_listening_is_a_lost_line(unused_tcp_port):
    with pytest.raises(LineLost, match="start it, or correct the address"):
        await open_line(f"tcp://127.0.0.1:{unused_tcp_port}")


# ---- emulated boards


@pytest.mark.parametrize(
    ("board", "tool", "packages"),
    [
        ("mps2-an386", "arm-none-eabi-gcc", "gcc-arm-none-eabi libnewlib-arm-none-eabi"),
        ("host", "cc", "gcc libc6-dev"),
        ("host", "make", "make"),
    ],
)
def test_a_missing_tool_chain_is_named(board, tool, packages, monkeypatch):
    real = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else real(name) or name)
    with pytest.raises(InvalidInput, match=f"cannot be built here; install: {packages}"):
        images.firmware_image(board)


@pytest.mark.parametrize(
    ("url", "tool", "message"),
    [
        ("emulated://mps2-an386", "qemu-system-arm", "qemu-system-arm is not installed"),
        ("emulated://mps2-an386", "setpriv", "the package util-linux has it"),
        ("emulated://host", "setpriv", "the package util-linux has it"),
    ],
)
async def test_a_missing_emulator_is_named(url, tool, message, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else name)
    with pytest.raises(InvalidInput, match=message):
        await open_line(url)


async def test_what_an_emulator_complained_of_is_in_the_error(tmp_path):
    program = tmp_path / "broken"
    said = ("warming up", "no such flash", "emulator: warning: nic has no peer")
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}' >&2\n" for line in said))
    program.chmod(0o755)
    board = HostBoard(program)
    with pytest.raises(LineLost, match=r"has ended.*: no such flash$"):
        await board.read()
    await board.close()


def test_an_unknown_board_is_refused():
    with pytest.raises(InvalidInput, match="did you mean 'nrf52840'"):
        images.firmware_image("nrf52841")


def test_ready_programs_are_taken_as_they_are_and_never_built(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYFLEET_FIRMWARE", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    program = tmp_path / "mps2_an386" / "tinyfleet.elf"
    with pytest.raises(InvalidInput, match="correct TINYFLEET_FIRMWARE"):
        images.firmware_image("mps2-an386")
    program.parent.mkdir()
    program.touch()
    assert images.firmware_image("mps2-an386") == program


def test_installed_programs_are_built_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SOURCES", tmp_path / "site-packages" / "mcu_bridge" / "firmware")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert images.build_folder().parent == tmp_path / "cache" / "tinyfleet"

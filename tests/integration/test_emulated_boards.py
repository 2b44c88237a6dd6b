"""Emulated boards: what their buttons do, how they end, and the link on the real firmware."""

import asyncio
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from mcu_bridge import images
from mcu_bridge.errors import DeviceRestarted, LineLost, NoAnswer
from mcu_bridge.lines.emulated import EmulatedBoard, open_emulated
from mcu_bridge.link.link import Link, Patience
from mcu_bridge.noise import Noise, NoisyLine
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.spec import LOSSES

QEMU = [
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.slow,
]
BOARDS = ["host", pytest.param("mps2-an386", marks=QEMU)]
IDENTIFY, CONFIGURE, WRITE, COMMIT, READ, COUNTERS = 1, 2, 3, 4, 5, 10
SOON = Patience(first_s=0.1, answer_s=10.0, progress_s=10.0)


@pytest.fixture(params=BOARDS)
async def board(request: pytest.FixtureRequest) -> AsyncIterator[EmulatedBoard]:
    found = await open_emulated(request.param)
    yield found
    await found.close()


@pytest.fixture
async def link(board: EmulatedBoard) -> AsyncIterator[Link]:
    async with Link(board, SOON) as link:
        await identify(link, 77)
        yield link


async def identify(link: Link, boot: int) -> int:
    """The boot id that the board has."""
    answer = (await link.command(IDENTIFY, struct.pack("<I", boot))).payload
    return int.from_bytes(answer[4:8], "little")


async def until_it_fails(link: Link) -> None:
    while True:
        await link.command(COUNTERS)


def is_running(number: int) -> bool:
    """Whether the process is there and not waiting to be collected."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_board_keeps_its_boot_until_it_is_reset(link: Link, board: EmulatedBoard) -> None:
    assert await identify(link, 78) == 77
    await board.reset()
    with pytest.raises(DeviceRestarted):
        await until_it_fails(link)  # the reset may come a moment later
    assert await identify(link, 79) == 79


async def test_a_board_that_hangs_goes_on_where_it_was(link: Link, board: EmulatedBoard) -> None:
    await board.stop()
    with pytest.raises(NoAnswer):
        await link.command(COUNTERS, patience_s=0.3)
    await board.cont()
    await link.command(COUNTERS)
    assert await identify(link, 78) == 77


async def test_a_power_cut_is_a_lost_line(link: Link, board: EmulatedBoard) -> None:
    await board.power_cut()
    with pytest.raises(LineLost, match="the emulated board has ended; open it anew"):
        await link.command(COUNTERS)
    if board.name != "emulated://host":
        with pytest.raises(LineLost, match="has ended"):
            await board.reset()


async def test_closing_ends_the_process(board: EmulatedBoard) -> None:
    assert is_running(board.process.pid)
    await board.close()
    await board.close()
    assert not is_running(board.process.pid)


OPEN = """
import asyncio, sys
from mcu_bridge.lines import open_line

async def main():
    line = await open_line(sys.argv[1])
    print(line.process.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_ends_with_its_parent_even_when_that_is_killed(name: str) -> None:
    command = [sys.executable, "-c", OPEN, f"emulated://{name}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        number = int(parent.stdout.readline())
        assert is_running(number)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 5.0
    while is_running(number) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(number)


async def test_a_fresh_program_is_not_built_again() -> None:
    first = images.firmware_image("host").stat()
    assert images.firmware_image("host").stat() == first


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setattr(images, "build_folder", lambda: tmp_path / "file" / "below")
    with pytest.raises(InvalidInput, match=r"cannot be built in .*: Not a directory; make it"):
        images.firmware_image("host")


async def there_and_back(link: Link, content: bytes) -> bytes:
    """What the board has after it was sent parameters, by its own protocol."""
    opened = await link.command(WRITE, struct.pack("<BBHI", 2, 0, 0, len(content)))
    await link.send(opened.transfer, content, int.from_bytes(opened.payload[8:12], "little"))
    checked = await link.command(COMMIT, struct.pack("<I", zlib.crc32(content)))
    assert checked.payload[0] == 0
    opened = await link.command(READ, struct.pack("<III", 2, 0, len(content)))
    return await link.receive(opened.transfer, len(content))


async def configure(link: Link) -> None:
    """The board for a model of 1,153 parameters."""
    spec = builtin_model("mlp_32", (1, 1, 1), 1, LOSSES[0])
    table = layer_table(spec)
    opened = await link.command(WRITE, struct.pack("<BBHI", 1, 0, 0, len(table)))
    await link.send(opened.transfer, table, int.from_bytes(opened.payload[8:12], "little"))
    assert (await link.command(COMMIT, struct.pack("<I", zlib.crc32(table)))).payload[0] == 0
    request = struct.pack("<BBBBI", len(spec.layers), LOSS_CODES[spec.loss], 0, 0, 0)
    assert (await link.command(CONFIGURE, request)).payload[0] == 0


@pytest.mark.parametrize(
    "noise",
    [Noise(), Noise(flip=1e-4, drop=1e-5, duplicate=1e-5)],
    ids=["good line", "bad line"],
)
async def test_parameters_come_back_as_they_were(noise: Noise, seed: int) -> None:
    line = NoisyLine(await open_emulated("host"), noise)
    async with Link(line, SOON) as link:
        await identify(link, 77)
        await configure(link)
        content = struct.pack("<1153f", *(Random(seed).random() for _ in range(1153)))
        for _ in range(10):
            assert await there_and_back(link, content) == content


async def test_a_cancelled_transfer_leaves_a_board_usable(link: Link) -> None:
    await configure(link)
    content = bytes(4 * 1153)
    for pause_s in (0.0, 0.001, 0.003, 0.01, 0.03):
        task = asyncio.create_task(there_and_back(link, content))
        await asyncio.sleep(pause_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await there_and_back(link, content) == content

"""Commands are executed once, transfers arrive whole, and what goes wrong has a name and an end."""

import asyncio
import random
import struct

import pytest
from fake_board import COUNT, GIVE, SILENCE, TAKE, FakeBoard

from mcu_bridge.errors import (
    DeviceRefused,
    DeviceRestarted,
    LineLost,
    NoAnswer,
    Status,
    WrongVersion,
)
from mcu_bridge.link.frame import ACK, DATA, IDENTIFY, MAX_WIRE, POLL
from mcu_bridge.link.link import Link, Patience
from mcu_bridge.noise import Noise, NoisyLine

SOON = Patience(first_s=0.02, answer_s=5.0, progress_s=5.0)
NEVER_ENDED = 0xFFFFFFFF


@pytest.fixture
async def board():
    return FakeBoard()


@pytest.fixture
async def link(board):
    async with Link(board, SOON) as link:
        await link.command(IDENTIFY, struct.pack("<I", 1))
        board.executed.clear()
        yield link


def content_of(length, seed=1):
    return random.Random(seed).randbytes(length)


async def send(link, content, ended_after=NEVER_ENDED, **options):
    opened = await link.command(TAKE, struct.pack("<II", len(content), ended_after))
    limit = int.from_bytes(opened.payload[4:8], "little")
    return await link.send(opened.transfer, content, limit, **options)


async def receive(link, board, content, **options):
    board.content = bytearray(content)
    opened = await link.command(GIVE, struct.pack("<I", len(content)))
    return await link.receive(opened.transfer, len(content), **options)


# ---- commands


async def test_a_command_is_answered(link, board):
    response = await link.command(5, b"abc")
    assert response.payload == bytes(4)
    assert board.executed == [(5, b"abc")]


async def test_a_lost_command_is_repeated(link, board):
    lost = iter([True, True, False])
    board.lose = lambda frame: next(lost)
    await link.command(5, b"abc")
    assert board.executed == [(5, b"abc")]
    assert link.counters.repeated == 2


async def test_a_command_whose_response_is_lost_is_executed_once(link, board):
    lost = iter([True, True, False])
    board.lose_own = lambda kind: next(lost)
    await link.command(5, b"abc")
    assert board.executed == [(5, b"abc")]


async def test_a_late_second_response_is_not_taken_for_the_next_command(link, board):
    first = await link.command(5, b"a")
    board._say(5 | 0x80, first.transfer, b"\x01late")
    assert (await link.command(5, b"b")).payload == bytes(4)
    assert board.executed == [(5, b"a"), (5, b"b")]


async def test_numbers_of_commands_wrap(board):
    async with Link(board, SOON) as link:
        link._sequence = 0xFFFE
        await link.command(IDENTIFY)
        for number in range(3):
            await link.command(5, bytes([number]))
    assert board.executed[1:] == [(5, b"\0"), (5, b"\x01"), (5, b"\x02")]


async def test_silence_has_an_end(link, board):
    board.silent = True
    with pytest.raises(NoAnswer, match=r"no answer from the board for 0\.1 s; reset it"):
        await link.command(5, patience_s=0.1)


async def test_silence_after_noise_names_the_speed(board):
    board.silent = True
    async with Link(board, SOON) as link:
        board._to_host.put_nowait(b"\x55garbage\0")
        with pytest.raises(NoAnswer, match=r"only noise arrives: check the speed \(baud\)"):
            await link.command(IDENTIFY, patience_s=0.1)


async def test_a_command_after_one_that_was_given_up_is_executed(link, board):
    """The board must not take the new command's number for a gap, whether it saw the old or not."""
    board.lose = lambda frame: True
    with pytest.raises(NoAnswer):
        await link.command(5, b"old", patience_s=0.05)
    board.lose = lambda frame: False
    await link.command(6, b"new")
    assert board.executed == [(5, b"old"), (6, b"new")]


async def test_a_cancelled_command_leaves_the_link_usable(link, board):
    task = asyncio.create_task(link.command(SILENCE, b"never answered"))
    await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await link.command(IDENTIFY)
    await link.command(6, b"new")
    assert board.executed[-1] == (6, b"new")


async def test_a_cancelled_transfer_leaves_the_link_usable(link, board):
    board.lose = lambda frame: frame.type == DATA and board.next >= 2520
    task = asyncio.create_task(send(link, content_of(10_000)))
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    board.lose = lambda frame: False
    content = content_of(5000, seed=2)
    assert (await send(link, content)).taken == 5000
    assert board.content == content


async def test_a_restarted_board_is_noticed_by_a_command(link, board):
    board.restart()
    with pytest.raises(DeviceRestarted, match="has restarted; connect to it anew"):
        await link.command(5)


async def test_an_unplugged_board_ends_a_waiting_command(link, board):
    board.silent = True
    asyncio.get_running_loop().call_later(0.02, board.unplug)
    with pytest.raises(LineLost, match="unplugged"):
        await link.command(5)
    with pytest.raises(LineLost, match="unplugged"):
        await link.command(5)


async def test_closing_ends_a_waiting_command(board):
    link = Link(board, SOON)
    board.silent = True
    task = asyncio.create_task(link.command(IDENTIFY))
    await asyncio.sleep(0.02)
    await link.close()
    with pytest.raises(LineLost):
        await task


async def test_another_version_is_named_with_ours(board):
    board.version = 7
    async with Link(board, SOON) as link:
        with pytest.raises(
            WrongVersion, match="speaks version 7 of the link, this program version 1"
        ):
            await link.command(IDENTIFY)


async def test_overlapping_commands_take_turns(link, board):
    await asyncio.gather(*(link.command(5, bytes([i])) for i in range(20)))
    assert [payload for _, payload in board.executed] == [bytes([i]) for i in range(20)]


# ---- transfers to the board


@pytest.mark.parametrize("length", [0, 1, 251, 252, 253, 756, 757, 10_000])
async def test_bytes_of_any_length_arrive(link, board, length):
    content = content_of(length)
    assert await send(link, content) == (length, False)
    assert board.content == content


async def test_no_more_is_sent_than_the_board_has_room_for(link, board):
    board.largest_write = 0
    await send(link, content_of(10_000))
    assert board.largest_write <= 3 * MAX_WIRE + 1


@pytest.mark.slow
async def test_a_third_of_blocks_and_acks_lost_still_arrives_whole(link, board, seed):
    chance = random.Random(seed)
    board.lose = lambda frame: frame.type == DATA and chance.random() < 1 / 3
    board.lose_own = lambda kind: kind == ACK and chance.random() < 1 / 3
    content = content_of(10_000)
    await send(link, content)
    assert board.content == content


async def test_a_lost_last_ack_is_asked_for(link, board):
    board.lose_own = lambda kind: kind == ACK and link.counters.polls == 0
    await send(link, content_of(252))
    assert link.counters.polls == 1


async def test_a_board_that_wants_no_more_ends_the_transfer(link, board):
    assert await send(link, content_of(10_000), ended_after=2520) == (2520, True)


async def test_a_transfer_goes_on_where_it_was_left(link, board):
    content = content_of(2000)
    opened = await link.command(TAKE, struct.pack("<II", 2000, NEVER_ENDED))
    board.content, board.next = bytearray(content[:504]), 504
    await link.send(opened.transfer, content, 504 + 756, start=504)
    assert board.content == content


async def test_progress_is_told_in_order(link, board):
    heard = []
    await send(link, content_of(2000), progress=heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 2000


async def test_a_board_that_stops_taking_is_given_up(link, board):
    board.lose = lambda frame: frame.type in (DATA, POLL)
    with pytest.raises(NoAnswer):
        await send(link, content_of(2000), patience_s=0.2)


async def test_a_slow_board_is_not_given_up_while_it_moves_on(link, board):
    taken = iter(range(1000))

    def lose(frame):
        return frame.type == DATA and next(taken) % 5 != 0

    board.lose = lose
    await send(link, content_of(5000), patience_s=0.5)
    assert len(board.content) == 5000


async def test_a_block_that_is_lost_many_times_in_a_row_costs_no_silence(board, seed):
    """POLLs are answered, so the board is there: nothing may wait longer and longer."""
    chance = random.Random(seed)
    board.lose = lambda frame: frame.type == DATA and chance.random() < 0.8
    async with Link(board, Patience(first_s=0.05, progress_s=2.0)) as link:
        await link.command(IDENTIFY)
        began = asyncio.get_running_loop().time()
        content = content_of(10_000)
        await send(link, content)
        took = asyncio.get_running_loop().time() - began
    assert board.content == content
    assert took < 3.0


async def test_a_board_that_answers_but_takes_nothing_is_given_up(link, board):
    board.lose = lambda frame: frame.type == DATA
    began = asyncio.get_running_loop().time()
    with pytest.raises(NoAnswer):
        await send(link, content_of(2000), patience_s=0.2)
    assert asyncio.get_running_loop().time() - began < 1.0
    assert link.counters.polls > 2


async def test_a_restart_is_noticed_while_sending(link, board):
    board.lose = lambda frame: board.restart() if frame.type == DATA else False
    with pytest.raises(DeviceRestarted):
        await send(link, content_of(2000))


async def test_a_transfer_that_the_board_does_not_know_is_refused(link, board):
    with pytest.raises(DeviceRefused, match="no such transfer") as refused:
        await link.send(4711, b"x" * 300, 756)
    assert refused.value.status == Status.NO_TRANSFER


# ---- transfers from the board


@pytest.mark.parametrize("length", [0, 1, 251, 252, 253, 2016, 2017, 20_000])
async def test_bytes_of_any_length_are_received(link, board, length):
    content = content_of(length)
    assert await receive(link, board, content) == content


@pytest.mark.slow
async def test_lost_blocks_and_acks_are_asked_for_again(link, board, seed):
    chance = random.Random(seed)
    board.lose_own = lambda kind: kind == DATA and chance.random() < 1 / 4
    board.lose = lambda frame: frame.type == ACK and chance.random() < 1 / 4
    content = content_of(20_000)
    assert await receive(link, board, content) == content


async def test_a_board_that_stops_giving_is_given_up(link, board):
    board.lose_own = lambda kind: kind == DATA
    with pytest.raises(NoAnswer):
        await receive(link, board, content_of(2000), patience_s=0.3)


async def test_a_restart_is_noticed_while_receiving(link, board):
    board.lose_own = lambda kind: board.restart() if kind == DATA else False
    board.lose = lambda frame: not board.identified and frame.type == ACK
    with pytest.raises(DeviceRestarted):
        await receive(link, board, content_of(20_000))


async def test_a_poll_tells_how_far_a_phase_is(link, board):
    opened = await link.command(COUNT)
    assert (await link.poll(opened.transfer)).next == 7
    assert (await link.poll(opened.transfer)).next == 14


async def test_a_poll_without_a_transfer_is_refused(link, board):
    with pytest.raises(DeviceRefused, match="no such transfer"):
        await link.poll(1)


# ---- timers


async def test_nothing_is_repeated_over_a_good_line(board):
    async with Link(board, Patience(first_s=5.0, least_s=5.0)) as link:
        await link.command(IDENTIFY)
        content = content_of(20_000)
        await send(link, content)
        assert await receive(link, board, content) == content
        assert (link.counters.repeated, link.counters.polls) == (0, 0)


# ---- over a bad line


@pytest.mark.slow
@pytest.mark.parametrize(
    "noise",
    [
        Noise(flip=3e-5),
        Noise(drop=3e-4),
        Noise(duplicate=3e-4),
        Noise(flip=1e-5, drop=1e-4, duplicate=1e-4, delay_s=0.003, baud=1_000_000),
    ],
    ids=["flip", "drop", "duplicate", "all"],
)
async def test_everything_arrives_exactly_once_over_a_bad_line(board, noise, seed):
    line = NoisyLine(board, Noise(**{**vars(noise), "seed": seed}))
    async with Link(line, SOON) as link:
        await link.command(IDENTIFY)
        board.executed.clear()
        content = content_of(30_000, seed)
        await send(link, content)
        assert board.content == content
        assert await receive(link, board, content) == content
        for number in range(50):
            await link.command(5, bytes([number]))
        assert [payload for kind, payload in board.executed if kind == 5] == [
            bytes([number]) for number in range(50)
        ]
        assert link.counters.repeated > 0

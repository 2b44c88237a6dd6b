"""A board that fails is begun anew with, then given up, and looked for until it is back."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from played_board import Bench, identity

from edge_agents.boards import RETRY_PAUSES_S, Board, Ports, board_capabilities
from edge_agents.reconnect import Clock
from edge_agents.trainers.mcu import BoardGone
from mcu_bridge.errors import DeviceRefused, Status
from tinyfleet.errors import Unreachable
from tinyfleet.learner.targets import TARGETS
from tinyfleet.readings import Level

URL = "pty:///dev/board"


class Waits:
    """Pauses that take no time; `then` is called at each, with how many there were."""

    def __init__(self, then=lambda count: None) -> None:
        self.pauses: list[float] = []
        self._then = then

    async def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self._then(len(self.pauses))
        await asyncio.sleep(0)


def board_on(
    bench: Bench, waits: Waits | None = None, url: str = URL, ports=None, on_sensor: bool = False
) -> Board:
    clock = Clock(sleep=waits or Waits(), draw=lambda: 0.5)
    return Board(url, ports or Ports(), 5.0, clock, bench.connect, on_sensor)


async def probe(device) -> str:
    await device.counters()
    return device.identity.board


async def test_board_that_works_is_connected_to_once() -> None:
    bench = Bench()
    board = board_on(bench)
    await board.find()
    assert [await board.use(probe) for _ in range(3)] == ["fake"] * 3
    assert (bench.opened, bench.closed) == ([URL], 0)
    await board.close()
    assert bench.closed == 1


async def test_reading_counts_link_errors_over_all_connections_and_tells_of_absence() -> None:
    bench = Bench(fail_at={1: "silent"})
    board = board_on(bench)
    assert board.reading().level is Level.WARN
    await board.find()

    async def spoil(device) -> None:
        device.link.counters.repeated += 1
        device.link.received.corrupt += 1
        await device.counters()

    await board.use(spoil)
    board.joins()
    reading = board.reading()
    assert (reading.about, reading.level) == (f"board {URL}", Level.OK)
    assert (reading.values["link_errors"], reading.values["failures"]) == (4, 1)
    await board.close()
    assert board.reading().values["link_errors"] == 4


@pytest.mark.parametrize("failure", ["unplugged", "silent", "restarted"])
async def test_work_is_begun_anew_on_a_new_connection(
    failure: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(fail_at={1: failure, 2: failure, 3: failure})
    board = board_on(bench)
    await board.find()
    assert await board.use(probe) == "fake"
    assert (len(bench.opened), bench.closed, len(bench.calls)) == (4, 3, 4)
    assert not board.gone.is_set()
    assert [record.message for record in caplog.records] == ["board failed, all done again"]


async def test_board_that_fails_a_fourth_time_is_given_up_with_one_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench, waits = Bench(), Waits()
    board = board_on(bench, waits)
    await board.find()
    board.joins()
    bench.plugged = False
    with pytest.raises(BoardGone, match="unplugged"):
        await board.use(probe)
    assert waits.pauses == list(RETRY_PAUSES_S)
    assert board.gone.is_set()
    assert [(r.message, r.fields["reason"]) for r in caplog.records] == [
        ("connection to the board lost, trying again", "the board was unplugged")
    ]


async def test_board_is_looked_for_until_it_is_there_and_each_change_is_said_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    bench = Bench(plugged=False)

    def plug_in(pauses: int) -> None:
        bench.plugged = pauses >= 8

    waits = Waits(plug_in)
    board = board_on(bench, waits)
    await board.find()
    board.joins()
    assert len(bench.opened) == 9
    assert waits.pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.5, 2.5])
    messages = [record.message for record in caplog.records]
    assert messages == ["no board, trying again", "board reached"]


async def test_board_of_another_version_is_named_once_until_it_is_flashed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(fail_open=dict.fromkeys(range(1, 6), "is of another version"))
    board = board_on(bench)
    await board.find()
    assert len(bench.opened) == 6
    assert [(r.message, r.fields["reason"]) for r in caplog.records] == [
        ("no board, trying again", "the board has version 2, this needs 1: flash it")
    ]


async def test_board_that_another_program_has_taken_meanwhile_is_gone() -> None:
    refused = dict.fromkeys(range(2, 5), "lacks a layer")  # any refusal will do
    bench = Bench(fail_at={1: "silent"}, fail_open=refused)
    board = board_on(bench)
    await board.find()
    with pytest.raises(BoardGone, match="refused"):
        await board.use(probe)


async def test_board_that_is_back_is_not_gone_any_more() -> None:
    bench = Bench()
    board = board_on(bench)
    await board.find()
    bench.plugged = False
    with pytest.raises(BoardGone):
        await board.use(probe)
    bench.plugged = True
    await board.find()
    assert not board.gone.is_set()
    assert await board.use(probe) == "fake"


async def test_board_that_answers_but_never_works_is_looked_for_ever_more_rarely() -> None:
    bench, waits = Bench(fail_at=dict.fromkeys(range(1, 17), "silent")), Waits()
    board = board_on(bench, waits)
    for _ in range(4):
        await board.find()
        with pytest.raises(BoardGone):
            await board.use(probe)
    await board.find()
    assert await board.use(probe) == "fake"
    assert waits.pauses[3::4] == pytest.approx([0.05, 0.1, 0.2, 0.4])


async def test_another_board_in_its_place_is_not_trained_on_under_the_old_name() -> None:
    bench = Bench(fail_at={1: "restarted"})
    board = board_on(bench)
    await board.find()
    bench.who = identity("other", memory_bytes=1000)
    with pytest.raises(BoardGone, match="another board, 'other'"):
        await board.use(probe)
    await board.find()
    assert (board.identity.board, await board.use(probe)) == ("other", "other")


async def test_a_new_boot_of_the_same_board_is_the_same_board() -> None:
    bench = Bench(fail_at={1: "restarted"})
    board = board_on(bench)
    await board.find()
    bench.who = replace(bench.who, boot_id=2, reset_cause="watchdog")
    assert await board.use(probe) == "fake"
    assert board.identity.reset_cause == "watchdog"


async def test_refusal_is_passed_on_and_the_board_stays() -> None:
    bench = Bench()
    board = board_on(bench)
    await board.find()

    async def refused(device) -> None:
        raise DeviceRefused(Status.BAD_LAYER, "the model")

    with pytest.raises(DeviceRefused):
        await board.use(refused)
    assert await board.use(probe) == "fake"
    assert len(bench.opened) == 1


async def test_cancelled_work_leaves_the_board_to_the_next() -> None:
    bench = Bench()
    board = board_on(bench)
    await board.find()
    working = asyncio.create_task(board.use(lambda device: asyncio.sleep(60)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    assert await board.use(probe) == "fake"
    assert (len(bench.opened), bench.closed) == (1, 0)


async def test_work_waits_for_the_work_before_it() -> None:
    board, order = board_on(Bench()), []

    async def slow(device) -> None:
        order.append("begins")
        await asyncio.sleep(0.01)
        order.append("ends")

    await board.find()
    await asyncio.gather(board.use(slow), board.use(slow))
    assert order == ["begins", "ends"] * 2


class Sockets(Bench):
    """A bench of several device files, some with something else behind them."""

    def __init__(self, *deaf: Path) -> None:
        super().__init__()
        self._deaf = [f"pty://{path}" for path in deaf]

    async def connect(self, url: str):
        device = await super().connect(url)
        if url in self._deaf:
            raise Unreachable("no answer")
        return device


def device_files(folder: Path, count: int) -> list[Path]:
    files = [folder / f"ttyACM{number}" for number in range(count)]
    for file in files:
        file.touch()
    return files


async def test_pattern_takes_the_first_file_with_a_board(tmp_path: Path) -> None:
    files = device_files(tmp_path, 3)
    bench = Sockets(files[0])
    board = board_on(bench, url=f"pty://{tmp_path}/ttyACM*")
    await board.find()
    assert bench.opened == [f"pty://{files[0]}", f"pty://{files[1]}"]


async def test_boards_of_one_process_do_not_take_the_same_file(tmp_path: Path) -> None:
    files, ports, bench = device_files(tmp_path, 2), Ports(), Bench()
    pattern = f"pty://{tmp_path}/ttyACM*?baud=9"
    boards = [board_on(bench, url=pattern, ports=ports) for _ in range(2)]
    await asyncio.gather(*(board.find() for board in boards))
    assert sorted(bench.opened) == [f"pty://{file}?baud=9" for file in files]
    await boards[0].close()
    again = board_on(bench, url=pattern, ports=ports)
    await again.find()
    assert bench.opened[-1] == bench.opened[0]


async def test_board_is_found_again_under_another_number(tmp_path: Path) -> None:
    (file,), bench = device_files(tmp_path, 1), Bench()
    board = board_on(bench, url=f"pty://{tmp_path}/ttyACM*")
    await board.find()
    file.rename(tmp_path / "ttyACM7")
    bench.fail_at = {1: "unplugged"}
    assert await board.use(probe) == "fake"
    assert bench.opened[-1] == f"pty://{tmp_path}/ttyACM7"


def test_pattern_without_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"no free device file matches .*ttyACM"):
        Ports().candidates(f"serial://{tmp_path}/ttyACM*?baud=9")


def test_fleet_is_told_what_the_board_has() -> None:
    able = board_capabilities(identity(memory_bytes=1234), ["sine"])
    assert (able.target, able.engine, able.memory_bytes) == ("cortex-m4", "device", 1234)
    assert (able.clock_hz, list(able.tasks)) == (64_000_000, ["sine"])
    firmware_here = board_capabilities(identity("host"), [])
    assert (firmware_here.target, firmware_here.engine) == ("host", "device")


def test_targets_are_those_that_memory_is_told_for() -> None:
    told = {board_capabilities(identity(board), []).target for board in ("host", "nrf52840")}
    assert told <= set(TARGETS)


async def test_board_without_the_wanted_sensor_is_refused_when_it_is_found(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bench = Bench(who=replace(identity(), has_sensor=False))

    def plug_in_another(count: int) -> None:
        if count == 3:
            bench.who = identity()

    board = board_on(bench, Waits(plug_in_another), on_sensor=True)
    await board.find()
    assert (len(bench.opened), bench.closed) == (4, 3)
    (record,) = caplog.records
    assert record.message == "no board, trying again"
    assert record.fields["reason"] == ("the board 'fake' has no sensor: leave samples=sensor out")


async def test_board_without_a_sensor_is_good_for_the_tasks_samples() -> None:
    bench = Bench(who=replace(identity(), has_sensor=False))
    await board_on(bench).find()
    assert (len(bench.opened), bench.closed) == (1, 0)

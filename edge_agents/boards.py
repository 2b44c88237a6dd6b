"""Attached boards: each is a member of the fleet for as long as it is there.

A board is looked for again and again, at the same place: it may be plugged in later, reset, or come
back under another number. What fails while it works is begun anew a few times before the board
is given up; then its member leaves the fleet, and the rest of the process goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import glob
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import tinyfleet
from edge_agents.device_url import DeviceChoice, device_name
from edge_agents.first_of import first_of
from edge_agents.learners import Contents
from edge_agents.membership import MEMBER, Membership
from edge_agents.model_files import ModelFiles
from edge_agents.preparation import Preparation, ProcessData, SourceOf
from edge_agents.reconnect import Backoff, Clock, Reachability
from edge_agents.settings import AgentSettings
from edge_agents.sources import SensorSource
from edge_agents.trainers.mcu import BoardGone, McuTrainer
from edge_agents.trainers.thread import WorkThread
from mcu_bridge.device import Device, DeviceIdentity
from tinyfleet.errors import Refused, TinyFleetError, Unreachable
from tinyfleet.logs import fields
from tinyfleet.readings import Reading
from tinyfleet.run import RunSpec
from tinyfleet.v1 import coordinator_pb2

RETRY_PAUSES_S = (0.1, 1.0, 3.0)  # our choice: a USB port takes a second or two to come back
PROBE_S = 2.0  # our choice: how soon a board that vanished while idle is missed
CLOSE_S = 5.0  # our choice: for a line that does not want to be closed
HOST_BOARD = "host"

Result = TypeVar("Result")
Connect = Callable[[str], Awaitable[Device]]

log = logging.getLogger("board")


class Ports:
    """Which device files the boards of this process have: a pattern takes the first free one."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def candidates(self, url: str) -> list[str]:
        """The URLs that `url` stands for now: itself, or for a pattern the free files of it.

        Raises Unreachable when a pattern has none.
        """
        line, mark, query = url.partition("?")
        scheme, slashes, path = line.rpartition("://")
        if not glob.has_magic(path):
            return [url]
        found = [f"{scheme}{slashes}{one}{mark}{query}" for one in _sorted_files(path)]
        free = [one for one in found if one not in self._taken]
        if not free:
            raise Unreachable(f"no free device file matches {path}: plug the board in")
        return free

    def take(self, url: str) -> None:
        self._taken.add(url)

    def give_back(self, url: str) -> None:
        self._taken.discard(url)


def _sorted_files(pattern: str) -> list[str]:
    return sorted(glob.glob(pattern))  # noqa: PTH207 - pathlib has no patterns of absolute paths


class Board:
    """One attached board: found, used, lost, found again. `gone` is set while it is given up."""

    def __init__(
        self,
        url: str,
        ports: Ports,
        ceiling_s: float,
        clock: Clock | None = None,
        connect: Connect = Device.connect,
        on_sensor: bool = False,
    ) -> None:
        """url: as `mcu_bridge.lines.open_line` takes it, or with a pattern of device files.

        ceiling_s: longest pause between two attempts to find the board. on_sensor: whether a board
        without a sensor is of no use.
        """
        self.gone = asyncio.Event()
        self._url = url
        self._ports = ports
        self._clock = clock or Clock()
        self._connect = connect
        self._on_sensor = on_sensor
        self._backoff = Backoff(ceiling_s, self._clock)
        self._reachability = Reachability("board", log, self._clock)
        self._using = asyncio.Lock()
        self._device: Device | None = None
        self._port = ""
        self._link_errors = self._failures = 0
        self._identity: DeviceIdentity | None = None

    @property
    def identity(self) -> DeviceIdentity:
        """Who the board is; it must have been found."""
        assert self._identity is not None  # noqa: S101 - `find` has returned
        return self._identity

    def reading(self) -> Reading:
        """How the board is; link_errors: frames that were spoiled or sent again, so far."""
        errors = self._link_errors + (_link_errors(self._device) if self._device else 0)
        values = {"link_errors": errors, "failures": self._failures}
        return self._reachability.reading(f"board {self._url}", "age_s", values)

    async def find(self) -> None:
        """Return once the board answers; until then look for it.

        One that answers and then fails at work is looked for ever more rarely.
        """
        self._identity = None
        if self.gone.is_set():
            await self._backoff.pause()
        while True:
            try:
                await self._connected()
                break
            except (OSError, TinyFleetError) as error:
                self._reachability.lost(self._url, str(error))
            await self._backoff.pause()
        self.gone.clear()

    def joins(self) -> None:
        """Say in the log that the board takes part."""
        who = self.identity
        self._reachability.reached(self._port, board=who.board, memory_bytes=who.memory_bytes)

    async def use(self, work: Callable[[Device], Awaitable[Result]]) -> Result:
        """What `work` gives; begun anew on a new connection, at most 3 times, when the board fails.

        Raises BoardGone, and gives the board up, when that does not help. What else `work`
        raises is passed on.
        """
        result = await self._use(work)
        self._backoff.reset()
        return result

    async def look_after(self) -> None:
        """Find out about an idle board's end before the next assignment does; for ever.

        Raises BoardGone.
        """
        while True:
            await self._clock.sleep(PROBE_S)
            if not self._using.locked():
                with contextlib.suppress(Refused):
                    await self._use(lambda device: device.counters())

    async def _use(self, work: Callable[[Device], Awaitable[Result]]) -> Result:
        async with self._using:
            failures: list[Exception] = []
            for pause_s in (*RETRY_PAUSES_S, None):
                try:
                    result = await self._attempt(work)
                    self._say_what_was_cured(failures)
                    return result
                except Unreachable as error:
                    failures.append(error)
                except BoardGone as gone:
                    failures.append(gone)
                    break
                if pause_s is not None:
                    await self._clock.sleep(pause_s)
            raise self._given_up(str(failures[-1]))

    async def close(self) -> None:
        """Let go of the line, if it is open."""
        device, self._device = self._device, None
        if device is not None:
            self._link_errors += _link_errors(device)
            self._ports.give_back(self._port)
            await _close(device)

    async def _attempt(self, work: Callable[[Device], Awaitable[Result]]) -> Result:
        try:
            try:
                device = await self._connected()
            except (OSError, TinyFleetError) as error:  # whatever it is, no board is there now
                raise Unreachable(str(error)) from None
            return await work(device)
        except (Unreachable, BoardGone):
            self._failures += 1
            await self.close()
            raise

    async def _connected(self) -> Device:
        """The open device, or a new one. Raises BoardGone when it is not the board it was."""
        if self._device is None:
            self._device = await self._opened()
            known, found = self._identity, self._device.identity
            if known is not None and _offer(known) != _offer(found):
                raise BoardGone(f"another board, '{found.board}', is in its place")
            self._identity = found
        return self._device

    async def _opened(self) -> Device:
        """A connection to the first that answers of what the URL stands for."""
        *others, last = self._ports.candidates(self._url)
        for url in others:
            with contextlib.suppress(OSError, Refused, Unreachable):
                return await self._open(url)
        return await self._open(last)

    async def _open(self, url: str) -> Device:
        self._ports.take(url)  # now: another board of this process looks at the same time
        try:
            device = await self._connect(url)
            await self._check_sensor(device)
        except BaseException:
            self._ports.give_back(url)
            raise
        self._port = url
        return device

    async def _check_sensor(self, device: Device) -> None:
        if self._on_sensor and not device.identity.has_sensor:
            await _close(device)
            raise Refused(
                f"the board '{device.identity.board}' has no sensor: leave samples=sensor out"
            )

    def _say_what_was_cured(self, failures: list[Exception]) -> None:
        if failures and self._identity is not None:
            who = self._identity
            about = {"reset_cause": who.reset_cause, "fault": who.fault or "none"}
            log.warning("board failed, all done again", extra=fields(reason=failures[0], **about))

    def _given_up(self, reason: str) -> BoardGone:
        self._reachability.lost(self._url, reason)
        self.gone.set()
        return BoardGone(reason)


async def _close(device: Device) -> None:
    with contextlib.suppress(TinyFleetError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_S):
            await device.close()


def _link_errors(device: Device) -> int:
    return device.link.counters.repeated + device.link.received.spoiled


def _offer(who: DeviceIdentity) -> tuple[str, int, int]:
    """What of a board the fleet was told."""
    return who.board, who.memory_bytes, who.clock_hz


class BoardMember:
    """Attends for one board, whenever it is there."""

    def __init__(
        self,
        settings: AgentSettings,
        choice: DeviceChoice,
        number: int,
        data: ProcessData,
        thread: WorkThread,
        board: Board,
        files: ModelFiles,
    ) -> None:
        """number: of the board among the agent's devices, from 1."""
        self._settings = settings
        self._choice = choice
        self._number = number
        self._data = data
        self._thread = thread
        self._board = board
        self._files = files
        self._member: Membership | None = None
        topic = None if choice.on_sensor else data.topic
        self._stream = topic.for_a_member() if topic else None

    def readings(self) -> Iterable[Reading]:
        """How the board is, and the member that attends for it while it is there."""
        yield self._board.reading()
        if self._member is not None:
            yield from self._member.readings()

    async def run(self, leave: asyncio.Event) -> None:
        """Take part whenever the board is there, until `leave` is set or an error ends it.

        Raises what `edge_agents.membership.Membership.run` raises.
        """
        try:
            while not leave.is_set():
                await first_of(self._board.find(), leave.wait())
                if not leave.is_set():
                    await self._attend(leave)
        finally:
            await self._board.close()

    async def _attend(self, leave: asyncio.Event) -> None:
        who = self._board.identity
        name = self._choice.name or device_name(self._settings.name, who.board, self._number)
        MEMBER.set(name)
        self._board.joins()
        preparation = Preparation(self._source_of(), self._trainer, self._thread, self._files)
        able = board_capabilities(who, [] if self._choice.on_sensor else self._data.tasks_served)
        self._member = Membership(self._settings, name, able, preparation)
        try:
            await self._member.run(self._until_gone(leave))
        finally:
            self._member = None

    def _source_of(self) -> SourceOf:
        if self._choice.on_sensor:
            return lambda spec: SensorSource()
        if (stream := self._stream) is not None:
            return lambda spec: stream
        return self._data.for_a_member()

    def _trainer(self, spec: RunSpec, _: Contents) -> McuTrainer:
        on_sensor = self._choice.on_sensor
        return McuTrainer(self._board, spec.model, self._thread, on_sensor, self._stream)

    async def _until_gone(self, leave: asyncio.Event) -> None:
        with contextlib.suppress(BoardGone):  # the log has it
            await first_of(self._board.gone.wait(), leave.wait(), self._board.look_after())


def board_capabilities(who: DeviceIdentity, tasks: list[str]) -> coordinator_pb2.Capabilities:
    """What the fleet is told of a board."""
    return coordinator_pb2.Capabilities(
        version=tinyfleet.__version__,
        target=HOST_BOARD if who.board == HOST_BOARD else "cortex-m4",
        engine="device",
        memory_bytes=who.memory_bytes,
        tasks=tasks,
        clock_hz=who.clock_hz,
    )

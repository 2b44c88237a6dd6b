"""What a device's calls are made of: commands, content there and back, and runs, all checked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mcu_bridge.device.messages import (
    COMMIT,
    READ,
    WRITE,
    Command,
    Region,
    RunResult,
    parse_result,
    unpack,
)
from mcu_bridge.errors import BadAnswer, NoAnswer
from mcu_bridge.link.link import Link, Response
from tinyfleet.errors import Unreachable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.002, 0.2  # our choice: between two questions how far it is
Progress = Callable[[int], None]


class Conversation:
    """The device protocol over `link`. After the first Unreachable every call raises it again."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._lost: Unreachable | None = None
        self._unfinished: tuple[Region, int, int] | None = None

    async def ask(self, command: Command, payload: bytes = b"") -> Response:
        """The board's response to a command, whatever its status."""
        with self._reachable():
            return await self.link.command(command, payload)

    async def told(self, command: Command, payload: bytes = b"") -> tuple[Any, ...]:
        """The fields of a response that is OK. Raises DeviceRefused, BadAnswer."""
        return unpack(command, (await self.ask(command, payload)).payload)

    async def write(self, region: Region, data: bytes, progress: Progress | None = None) -> None:
        """Put `data` into a region, going on where a cancelled write of the same data ended."""
        crc32 = zlib.crc32(data)
        content = (region, len(data), crc32)
        resume = self._unfinished == content
        response = await self.ask(Command.WRITE, WRITE.pack(region, resume, len(data)))
        start, limit = unpack(Command.WRITE, response.payload)
        if start > (len(data) if resume else 0):
            raise BadAnswer(f"it goes on at byte {start} of {len(data)}")
        self._unfinished = content
        await self._send(response.transfer, data, limit, start, progress)
        await self.told(Command.COMMIT, COMMIT.pack(crc32))
        self._unfinished = None

    async def read(self, region: Region, length: int, progress: Progress | None = None) -> bytes:
        """All `length` bytes of a region."""
        response = await self.ask(Command.READ, READ.pack(region, 0, length))
        crc32, told_length = unpack(Command.READ, response.payload)
        if told_length != length:
            raise BadAnswer(f"it sends {told_length} of {length} bytes")
        with self._reachable():
            data = await self.link.receive(response.transfer, length, progress=progress)
        if zlib.crc32(data) != crc32:
            raise BadAnswer("the bytes it sent have another checksum than it says")
        return data

    async def run_on(
        self, data: bytes, command: Command, request: bytes, progress: Progress | None
    ) -> RunResult:
        """TRAIN or EVALUATE on encoded samples; `progress` hears how many bytes are done."""
        response = await self.ask(command, request)
        total, limit = unpack(command, response.payload)
        if total != len(data):
            raise BadAnswer(f"it expects {total} of {len(data)} sample bytes")
        ended = await self._send(response.transfer, data, limit, 0, progress)
        result = await self._finished()
        if result.diverged:  # it left some bytes unread
            return result
        if ended:
            raise BadAnswer("it wanted no more samples and has not diverged")
        if result.crc32 != zlib.crc32(data):
            raise BadAnswer("the samples it trained on have another checksum")
        return result

    async def run_on_sensor(
        self, steps: int, command: Command, request: bytes, progress: Progress | None
    ) -> RunResult:
        """TRAIN or EVALUATE on the board's sensor; `progress` hears how many steps are done."""
        response = await self.ask(command, request)
        total, _ = unpack(command, response.payload)
        if total != steps:
            raise BadAnswer(f"it makes {total} of {steps} steps")
        await self._sensed(response.transfer, steps, progress)
        return await self._finished()

    def forget(self, reason: Unreachable) -> None:
        """Have every later call raise `reason`."""
        self._lost = reason

    async def _send(
        self, transfer: int, data: bytes, limit: int, start: int, progress: Progress | None
    ) -> bool:
        """Whether the board wanted only a part of `data`."""
        with self._reachable():
            sent = await self.link.send(transfer, data, limit, start=start, progress=progress)
        return sent.ended and sent.taken < len(data)

    async def _sensed(self, transfer: int, steps: int, progress: Progress | None) -> None:
        """Return when all steps are made, or when the board wants no more of them."""
        watch = _Stall(self.link.patience.progress_s)
        while True:
            with self._reachable():
                polled = await self.link.poll(transfer)
            if polled.next > steps:
                raise BadAnswer(f"it made {polled.next} of {steps} steps")
            if progress:
                progress(polled.next)
            if polled.ended or polled.next == steps:
                return
            with self._reachable():
                await watch.pause(polled.next)

    async def _finished(self) -> RunResult:
        """The result of the run, once it is over: stored samples are passed over again first."""
        watch = _Stall(self.link.patience.progress_s)
        while True:
            result = parse_result((await self.ask(Command.RESULT)).payload)
            if result.finished:
                return result
            with self._reachable():
                await watch.pause(result.steps)

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        if self._lost is not None:
            raise type(self._lost)(str(self._lost))
        try:
            yield
        except Unreachable as error:
            self._lost = error
            raise


class _Stall:
    """Waits longer and longer between two questions, as long as the answers change."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._pause_s = FIRST_PAUSE_S
        self._last: tuple[int, float] | None = None

    async def pause(self, done: int) -> None:
        """Wait; raises NoAnswer when `done` has been the same for too long."""
        now = asyncio.get_running_loop().time()
        if self._last is None or self._last[0] != done:
            self._last = (done, now)
        elif now - self._last[1] > self._patience_s:
            raise NoAnswer(f"the board answers, but its training stands still at step {done}")
        await asyncio.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

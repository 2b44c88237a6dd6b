"""Commands and transfers over one line: repeats, windows and timers (docs/formats/link.md).

All timers of the link are here, the board only reacts. One operation runs at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from random import Random
from types import TracebackType
from typing import NamedTuple

from mcu_bridge.errors import (
    DeviceRefused,
    DeviceRestarted,
    LineLost,
    NoAnswer,
    Status,
    WrongVersion,
)
from mcu_bridge.lines.protocol import Line
from mcu_bridge.link.cobs import Bytes
from mcu_bridge.link.frame import (
    ACK,
    DATA,
    IDENTIFY,
    LINK_VERSION,
    POLL,
    RESPONSE,
    WRONG_VERSION,
    Frame,
    FrameReader,
    ReaderCounters,
    encode_frame,
)
from mcu_bridge.link.timer import ReplyTime, ReplyTimer
from mcu_bridge.link.transfer import ENDED, Incoming, Outgoing, ack_from_bytes

Progress = Callable[[int], None]

_LONGEST_PAUSE_S = 2.0  # between two repeats of a command
_NOT_IDENTIFIED = bytes([Status.NOT_IDENTIFIED])
_INBOX = 64  # frames that wait for the operation: four windows; more come from no sane board


@dataclass(frozen=True)
class Patience:
    """How long the host waits, in seconds. All are our choice.

    first_s: before the first repeat, as long as nothing is known of the board's pace; later it is
    learned, but not below `least_s`. While nothing comes, each further wait is twice as long.
    answer_s: for a command in all; then NoAnswer.
    progress_s: for a transfer to move on; then NoAnswer. A board that trains between two blocks
    is silent meanwhile, so a caller that knows of slow samples gives `send` more.
    """

    first_s: float = 0.25
    answer_s: float = 5.0
    progress_s: float = 10.0
    least_s: float = 0.03


@dataclass
class LinkCounters:
    """What a link has done: frames and bytes sent, frames sent once more, POLLs among them."""

    frames_sent: int = 0
    bytes_sent: int = 0
    repeated: int = 0
    polls: int = 0


class Response(NamedTuple):
    """A board's response: `payload` starts with the status; `transfer` names what it opened."""

    transfer: int
    payload: bytes


class Sent(NamedTuple):
    """How a transfer to the board went: bytes that it took, and whether it wanted no more."""

    taken: int
    ended: bool


class Polled(NamedTuple):
    """The board's answer to a POLL: all below `next` is taken, `limit` is how far it may go on."""

    next: int
    limit: int
    ended: bool


class Request(NamedTuple):
    """A command with its sequence number, which the board has not answered yet."""

    type: int
    sequence: int
    payload: bytes


class Link:
    """The link over `line`, which it owns: `close` closes it. An async context manager.

    Every method raises LineLost when the line is gone, NoAnswer when the board stays silent,
    DeviceRestarted when it has lost its state, WrongVersion when it speaks another link.
    A cancelled call leaves the link fit for the next one. Calls that overlap take turns.

    counters: what was sent; received: good and bad frames that arrived. `random` draws the first
    sequence number.
    """

    def __init__(
        self, line: Line, patience: Patience | None = None, random: Random | None = None
    ) -> None:
        self.line = line
        self.patience = patience or Patience()
        self.counters = LinkCounters()
        self._sequence = (random or Random()).randrange(0x10000)
        self._reader = FrameReader()
        self._turn = asyncio.Lock()
        self._inbox: deque[Frame] = deque(maxlen=_INBOX)
        self._waiter: asyncio.Future[None] | None = None
        self._listener: asyncio.Task[None] | None = None
        self._lost: LineLost | None = None
        self._unanswered: Request | None = None
        first_s, least_s = self.patience.first_s, self.patience.least_s
        self._commands = ReplyTime(first_s, least_s)
        self._sending = ReplyTime(first_s, least_s)
        self._receiving = ReplyTime(first_s, least_s)

    @property
    def received(self) -> ReaderCounters:
        """Frames that arrived, by kind."""
        return self._reader.counters

    async def command(
        self, type: int, payload: bytes = b"", *, patience_s: float | None = None
    ) -> Response:
        """Have the board execute a command (0x01..0x3F) once; returns its response.

        The payload is the response as it came, at least a status byte; statuses other than
        NOT_IDENTIFIED are the caller's to judge. `patience_s` replaces Patience.answer_s.
        """
        patience_s = self.patience.answer_s if patience_s is None else patience_s
        async with self._operation():
            # One that was given up may yet be executed: its number must be the board's last before
            # the next one counts. IDENTIFY is taken with any number.
            if self._unanswered is not None and type != IDENTIFY:
                await self._request(self._unanswered, patience_s)
            self._sequence = (self._sequence + 1) & 0xFFFF
            return await self._request(Request(type, self._sequence, payload), patience_s)

    async def send(
        self,
        transfer: int,
        data: Bytes,
        limit: int,
        *,
        start: int = 0,
        patience_s: float | None = None,
        progress: Progress | None = None,
    ) -> Sent:
        """Send `data[start:]` on the transfer that a response opened, as its `limit` allows.

        `start` is where the board goes on (a multiple of 252). `progress` hears what the board has
        taken, in bytes from the transfer's start. Returns early when the board wants no more.
        `patience_s` replaces Patience.progress_s. Raises DeviceRefused when the board has no such
        transfer.
        """
        patience_s = self.patience.progress_s if patience_s is None else patience_s
        async with self._operation():
            outgoing = Outgoing(transfer, data, start, limit)
            timer = ReplyTimer(self._sending, patience_s, self._now())
            await self._send(outgoing, transfer, timer, progress or _unheard)
            return Sent(outgoing.taken, outgoing.ended)

    async def receive(
        self,
        transfer: int,
        total: int,
        *,
        patience_s: float | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The `total` bytes of the transfer that a response opened.

        `progress` hears how many there are; `patience_s` replaces Patience.progress_s.
        """
        patience_s = self.patience.progress_s if patience_s is None else patience_s
        async with self._operation():
            incoming = Incoming(transfer, total)
            timer = ReplyTimer(self._receiving, patience_s, self._now())
            await self._receive(incoming, transfer, timer, progress or _unheard)
            return incoming.content()

    async def poll(self, transfer: int, *, patience_s: float | None = None) -> Polled:
        """How far the board is with a transfer to it, or with a phase on its sensor.

        `patience_s` replaces Patience.answer_s. Raises DeviceRefused without such a transfer.
        """
        patience_s = self.patience.answer_s if patience_s is None else patience_s
        async with self._operation():
            self.counters.polls += 1
            wire = encode_frame(POLL, transfer, b"")
            frame = await self._ask(wire, transfer, (ACK, POLL | RESPONSE), patience_s)
            ack = ack_from_bytes(frame.payload) if frame.type == ACK else None
            if ack is None:
                raise self._refusal(frame)
            return Polled(ack.next, ack.limit, bool(ack.flags & ENDED))

    async def close(self) -> None:
        """Close the line; a call that waits raises LineLost."""
        self._lose(LineLost(f"{self.line.name}: closed"))
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.gather(self._listener, return_exceptions=True)
        await self.line.close()

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

    # ---- Commands

    async def _request(self, request: Request, patience_s: float) -> Response:
        self._unanswered = request
        wire = encode_frame(*request)
        types = (request.type | RESPONSE,)
        frame = await self._ask(wire, request.sequence, types, patience_s)
        self._unanswered = None
        if frame.payload[:1] == _NOT_IDENTIFIED:
            raise self._restarted()
        return Response(request.sequence, frame.payload)

    async def _ask(
        self, wire: bytes, sequence: int, types: Iterable[int], patience_s: float
    ) -> Frame:
        """Send a frame until one of the types comes back with its number."""
        pause_s = self._commands.wait_s
        give_up_at = self._now() + patience_s
        for repeat in count():
            self.counters.repeated += repeat > 0
            asked_at = self._now()
            await self._write([wire], give_up_at, patience_s)
            frame = await self._answer(sequence, types, min(give_up_at, self._now() + pause_s))
            if frame is not None:
                if repeat == 0:
                    self._commands.measure(self._now() - asked_at)
                return frame
            if self._now() >= give_up_at:
                break
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        raise self._silent(patience_s)

    async def _answer(self, sequence: int, types: Iterable[int], until: float) -> Frame | None:
        while True:
            frames = await self._frames(until)
            for frame in frames:
                if frame.sequence == sequence and frame.type in types:
                    return frame
            if not frames and self._now() >= until:
                return None

    # ---- Transfers

    async def _send(
        self, outgoing: Outgoing, transfer: int, timer: ReplyTimer, progress: Progress
    ) -> None:
        while not outgoing.done:
            if outgoing.ready:
                await self._send_blocks(outgoing, transfer, timer)
            frames = await self._frames(self._now() if outgoing.ready else timer.until)
            before, acks = outgoing.progress, self._take_acks(outgoing, transfer, frames)
            if outgoing.progress != before:
                timer.moved(outgoing.taken, self._now())
                progress(outgoing.taken)
                continue
            self._check_patience(timer)
            if acks:
                timer.heard(self._now())
            elif timer.lapsed(self._now()) and outgoing.silence():
                outgoing.polled()
                await self._poll(transfer, timer)

    async def _send_blocks(self, outgoing: Outgoing, transfer: int, timer: ReplyTimer) -> None:
        before, frames = outgoing.repeated, outgoing.blocks()
        if outgoing.wary:
            outgoing.polled()
            self.counters.polls += 1
            frames.append(encode_frame(POLL, transfer, b""))
        await self._write(frames, timer.give_up_at, timer.patience_s)
        if outgoing.repeated > before:
            self.counters.repeated += outgoing.repeated - before
            timer.repeated()
        else:
            timer.asked(outgoing.sent, self._now())

    def _take_acks(self, outgoing: Outgoing, transfer: int, frames: list[Frame]) -> int:
        """Take over the ACKs among the frames; returns how many. Raises what a refusal means."""
        acks = 0
        for frame in frames:
            if frame.sequence != transfer:
                continue
            if frame.type == ACK and (ack := ack_from_bytes(frame.payload)) is not None:
                acks += 1
                outgoing.take(ack)
            elif frame.type == POLL | RESPONSE:
                raise self._refusal(frame)
        return acks

    async def _receive(
        self, incoming: Incoming, transfer: int, timer: ReplyTimer, progress: Progress
    ) -> None:
        await self._acknowledge(incoming, timer)
        while not incoming.done:
            spoiled = self.received.spoiled
            frames = await self._frames(timer.until)
            before, blocks = incoming.taken, self._take_blocks(incoming, transfer, frames, timer)
            if incoming.taken > before:
                timer.moved(incoming.taken, self._now())
                progress(incoming.taken)
            self._check_patience(timer)
            if blocks:
                timer.heard(self._now())
                await self._acknowledge(incoming, timer)
            elif self.received.spoiled > spoiled:
                timer.heard(self._now())
                if incoming.one_by_one:
                    timer.repeated()
                    await self._acknowledge(incoming, timer, again=True)
            elif timer.lapsed(self._now()):
                await self._acknowledge(incoming, timer, again=True)
                if timer.lapses > 1:  # an ACK tells nothing to a board that has restarted
                    await self._poll(transfer, timer)

    def _take_blocks(
        self, incoming: Incoming, transfer: int, frames: list[Frame], timer: ReplyTimer
    ) -> int:
        """Put the blocks among the frames together; returns how many there were."""
        blocks = 0
        for frame in frames:
            if frame.sequence != transfer:
                continue
            if frame.type == DATA:
                blocks += 1
                if not incoming.take(frame.payload):
                    timer.repeated()
            # A board refuses any POLL for what it sends itself; this refusal says more.
            elif frame.type == POLL | RESPONSE and frame.payload[:1] == _NOT_IDENTIFIED:
                raise self._refusal(frame)
        return blocks

    async def _acknowledge(
        self, incoming: Incoming, timer: ReplyTimer, again: bool = False
    ) -> None:
        self.counters.repeated += again
        await self._write([incoming.ack(again)], timer.give_up_at, timer.patience_s)
        if not incoming.done:
            timer.asked(incoming.allowed, self._now())

    async def _poll(self, transfer: int, timer: ReplyTimer) -> None:
        self.counters.polls += 1
        wire = encode_frame(POLL, transfer, b"")
        await self._write([wire], timer.give_up_at, timer.patience_s)

    def _check_patience(self, timer: ReplyTimer) -> None:
        if self._now() >= timer.give_up_at:
            raise self._silent(timer.patience_s)

    # ---- The line

    @asynccontextmanager
    async def _operation(self) -> AsyncIterator[None]:
        """One operation at a time; it sees no frame from before."""
        async with self._turn:
            if self._listener is None and self._lost is None:
                self._listener = asyncio.create_task(self._listen())
            self._inbox.clear()
            yield

    async def _listen(self) -> None:
        try:
            while True:
                data, spoiled = await self.line.read(), self.received.spoiled
                self._inbox.extend(self._reader.take(data))
                if self._inbox or self.received.spoiled > spoiled:
                    self._wake()
        except LineLost as error:
            self._lose(error)
        finally:
            self._lose(LineLost(f"{self.line.name}: nobody reads it any more; open it anew"))

    def _lose(self, error: LineLost) -> None:
        self._lost = self._lost or error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _frames(self, until: float) -> list[Frame]:
        """The frames that have arrived; waits for some, or for a spoiled one, until then."""
        if not self._inbox and self._lost is None:
            await self._wait(until)
        if not self._inbox and self._lost is not None:
            raise LineLost(str(self._lost))
        frames = list(self._inbox)
        self._inbox.clear()
        for frame in frames:
            self._check_version(frame)
        return frames

    async def _wait(self, until: float) -> None:
        # A future and a timer of our own: a third of what asyncio.timeout costs, for each frame.
        loop = asyncio.get_running_loop()
        waiter = self._waiter = loop.create_future()
        handle = loop.call_at(until, self._wake)
        try:
            await waiter
        finally:
            handle.cancel()
            self._waiter = None

    async def _write(self, frames: list[bytes], give_up_at: float, patience_s: float) -> None:
        """Send frames behind a zero: it ends what a call that was cancelled left half sent."""
        data = b"".join([b"\0", *frames])
        self.counters.frames_sent += len(frames)
        self.counters.bytes_sent += len(data)
        try:
            async with asyncio.timeout_at(give_up_at):
                await self.line.write(data)
        except TimeoutError:
            raise self._silent(patience_s) from None

    # ---- What goes wrong

    def _check_version(self, frame: Frame) -> None:
        theirs = frame.version
        if frame.type == WRONG_VERSION and theirs == LINK_VERSION:
            theirs = frame.payload[0] if frame.payload else LINK_VERSION
        if theirs != LINK_VERSION:
            raise WrongVersion(
                f"{self.line.name}: the board speaks version {theirs} of the link, this program"
                f" version {LINK_VERSION}; flash the firmware that came with this program"
            )

    def _refusal(self, frame: Frame) -> DeviceRestarted | DeviceRefused:
        if frame.payload[:1] == _NOT_IDENTIFIED:
            return self._restarted()
        status = frame.payload[0] if frame.payload else Status.BAD_REQUEST
        return DeviceRefused(status, "to go on with a transfer")

    def _restarted(self) -> DeviceRestarted:
        return DeviceRestarted(f"{self.line.name}: the board has restarted; connect to it anew")

    def _silent(self, patience_s: float) -> NoAnswer:
        seen = self.received
        if seen.frames == 0 and seen.spoiled > 0:
            remedy = "only noise arrives: check the speed (baud) and the wiring"
        else:
            remedy = "reset it; if that does not help, flash its firmware"
        return NoAnswer(
            f"{self.line.name}: no answer from the board for {patience_s:g} s; {remedy}"
        )

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _unheard(_: int) -> None:
    """Progress that nobody asked for."""

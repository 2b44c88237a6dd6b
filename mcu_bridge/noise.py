"""A bad line: bits flip, bytes vanish or come twice, all is late, slow, or gone for a while.

For tests, and for trying how a fleet copes: `NoisyLine(line, noise)` is a Line itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, fields
from random import Random

from mcu_bridge.errors import LineLost
from mcu_bridge.lines.protocol import Line
from tinyfleet.errors import InvalidInput, one_line, unknown_name

_ON_THE_WAY = 4096  # bytes between a writer and the wire, as a serial driver's buffer holds
_PIECE_S = 0.001  # bytes are delivered in pieces of this long, and of 16 bytes at least
_BITS_A_BYTE = 10  # with start and stop bit


@dataclass(frozen=True)
class Noise:
    """What is wrong with a line, in each direction alike.

    flip: probability of a bit to be wrong (the bit error rate). drop, duplicate: probability of a
    byte to vanish, or to come twice. delay_s: how much later everything comes. baud: bits a second,
    10 a byte; None for as fast as it goes. cut_after: so many bytes after the start, both
    directions together, the line goes dead, for `cut_for_s` seconds (for ever by default): what
    is sent meanwhile vanishes. seed: which bits and bytes it hits; that depends on their
    position alone.
    """

    flip: float = 0.0
    drop: float = 0.0
    duplicate: float = 0.0
    delay_s: float = 0.0
    baud: int | None = None
    cut_after: int | None = None
    cut_for_s: float = math.inf
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("flip", "drop", "duplicate"):
            if not 0.0 <= getattr(self, name) <= 0.5:
                raise InvalidInput(f"noise: {name} is a probability from 0 to 0.5")
        if not 0.0 <= self.delay_s <= 60.0:
            raise InvalidInput("noise: delay_s is from 0 to 60 seconds")
        if self.baud is not None and not 300 <= self.baud <= 100_000_000:
            raise InvalidInput("noise: baud is from 300 to 100000000")
        if (self.cut_after or 0) < 0 or not self.cut_for_s >= 0.0:
            raise InvalidInput("noise: cut_after and cut_for_s are not negative")


def parse_noise(text: str) -> Noise:
    """The noise in a text such as `flip=1e-5,drop=1e-4,baud=115200`; raises InvalidInput."""
    types = {field.name: float if "float" in str(field.type) else int for field in fields(Noise)}
    values: dict[str, float | int] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.strip().partition("=")
        if name not in types:
            raise unknown_name("noise", name, types)
        try:
            values[name] = types[name](value)
        except ValueError:
            raise InvalidInput(f"noise: '{one_line(part)}' is not {name}=NUMBER") from None
    return Noise(**values)  # type: ignore[arg-type]


class NoisyLine:
    """A Line over another one, with noise; it owns the other one."""

    def __init__(self, line: Line, noise: Noise) -> None:
        self.name = line.name
        self._line = line
        self._cut = _Cut(noise)
        self._arrived = bytearray()
        self._news = asyncio.Event()
        self._lost: LineLost | None = None
        self._out = _Direction(noise, "out", self._cut, line.write)
        self._in = _Direction(noise, "in", self._cut, self._arrive)
        self._tasks: list[asyncio.Task[None]] = []

    async def read(self) -> bytes:
        self._start()
        while not self._arrived:
            if self._lost is not None:
                raise LineLost(str(self._lost))
            self._news.clear()
            await self._news.wait()
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        self._start()
        if self._lost is not None:
            raise LineLost(str(self._lost))
        await self._out.put(data)

    async def close(self) -> None:
        self._lose(LineLost(f"{self.name}: closed"))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._line.close()

    def _start(self) -> None:
        if not self._tasks and self._lost is None:
            jobs = (self._listen(), self._out.run(), self._in.run())
            self._tasks = [asyncio.create_task(self._watch(job)) for job in jobs]

    async def _watch(self, job: Awaitable[None]) -> None:
        try:
            await job
        except LineLost as error:
            self._lose(error)

    def _lose(self, error: LineLost) -> None:
        self._lost = self._lost or error
        self._news.set()
        self._out.stop()

    async def _listen(self) -> None:
        while True:
            await self._in.put(await self._line.read())

    async def _arrive(self, data: bytes) -> None:
        self._arrived += data
        self._news.set()


class _Cut:
    """Whether the line is dead; counts the bytes of both directions."""

    def __init__(self, noise: Noise) -> None:
        self._left = math.inf if noise.cut_after is None else noise.cut_after
        self._for_s = noise.cut_for_s
        self._until: float | None = None

    def surviving(self, data: bytes, now: float) -> bytes:
        """What of the bytes still gets through."""
        if self._until is not None:
            return data if now >= self._until else b""
        if len(data) <= self._left:
            self._left -= len(data)
            return data
        self._until = now + self._for_s
        return data[: int(self._left)]


class _Direction:
    """One direction of the line: bytes wait for their time in a queue, and keep their order."""

    def __init__(
        self, noise: Noise, name: str, cut: _Cut, deliver: Callable[[bytes], Awaitable[None]]
    ) -> None:
        self._noise = noise
        self._cut = cut
        self._deliver = deliver
        self._damage = _Damage(noise, name)
        self._queue: deque[tuple[float, bytes]] = deque()  # when it is there, bytes
        self._size = 0
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._free_at = 0.0  # when the wire has carried all that is in the queue
        self._stopped = False

    async def put(self, data: bytes) -> None:
        """Return when the bytes are on their way: all but 4 KiB of what was put is delivered."""
        while self._size >= _ON_THE_WAY and not self._stopped:
            self._room.clear()
            await self._room.wait()
        now = asyncio.get_running_loop().time()
        byte_s = _BITS_A_BYTE / self._noise.baud if self._noise.baud else 0.0
        piece = max(16, int(_PIECE_S / byte_s)) if byte_s else max(1, len(data))
        self._free_at = max(self._free_at, now)
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            self._free_at += len(part) * byte_s
            self._queue.append((self._free_at + self._noise.delay_s, part))
        self._size += len(data)
        self._changed.set()

    def stop(self) -> None:
        """Nothing is delivered any more; whoever waits for room goes on."""
        self._stopped = True
        self._room.set()

    async def run(self) -> None:
        """Deliver the bytes, each when it is due."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                self._changed.clear()
                await self._changed.wait()
            if (wait_s := self._queue[0][0] - loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._deliver_due(loop.time())

    async def _deliver_due(self, now: float) -> None:
        due = bytearray()
        while self._queue and self._queue[0][0] <= now:
            due += self._queue.popleft()[1]
        self._size -= len(due)
        if self._size < _ON_THE_WAY:
            self._room.set()
        if data := self._cut.surviving(self._damage.done_to(bytes(due)), now):
            await self._deliver(data)


class _Damage:
    """Draws where the next bit or byte is hit, not for each whether: nearly all are left alone."""

    def __init__(self, noise: Noise, direction: str) -> None:
        chances = {"flip": noise.flip, "drop": noise.drop, "duplicate": noise.duplicate}
        self._hits = {
            kind: _Hits(chance, Random(f"{noise.seed} {direction} {kind}"))
            for kind, chance in chances.items()
        }

    def done_to(self, data: bytes) -> bytes:
        """The bytes with their damage: first flips, then losses, then doubles."""
        hurt = bytearray(data)
        for bit in self._hits["flip"].among(8 * len(hurt)):
            hurt[bit // 8] ^= 1 << bit % 8
        for at in reversed(self._hits["drop"].among(len(hurt))):
            del hurt[at]
        for at in reversed(self._hits["duplicate"].among(len(hurt))):
            hurt.insert(at, hurt[at])
        return bytes(hurt)


class _Hits:
    """Positions that are hit with a probability each, by the gaps between them (geometric)."""

    def __init__(self, chance: float, random: Random) -> None:
        self._random = random
        self._scale = math.log1p(-chance)
        self._gap = self._draw()

    def _draw(self) -> float:
        if self._scale == 0.0:
            return math.inf
        return math.floor(math.log(1.0 - self._random.random()) / self._scale)

    def among(self, count: int) -> list[int]:
        """Which of the next `count` positions are hit."""
        hits = []
        while self._gap < count:
            hits.append(int(self._gap))
            self._gap += 1 + self._draw()
        self._gap -= count
        return hits

"""Lines to an emulated board for tests that disturb it."""

from collections.abc import Awaitable, Callable

from mcu_bridge.lines.protocol import Line


class KeptLine:
    """A line that stays open when a device is closed: the same board can be connected anew."""

    def __init__(self, line: Line) -> None:
        self.name = line.name
        self._line = line

    async def read(self) -> bytes:
        return await self._line.read()

    async def write(self, data: bytes) -> None:
        await self._line.write(data)

    async def close(self) -> None:
        """The test closes the board."""


class EventfulLine(KeptLine):
    """Counts what is written; `event` comes just before the write that is number `at`, from 1."""

    def __init__(
        self, line: Line, at: int = 0, event: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        super().__init__(line)
        self._at = at
        self._event = event
        self.writes = 0
        self.bytes_written = 0

    async def write(self, data: bytes) -> None:
        self.writes += 1
        self.bytes_written += len(data)
        if self.writes == self._at and self._event is not None:
            await self._event()
        await super().write(data)

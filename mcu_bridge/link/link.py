"""Commands and transfers over one line: repeats, windows and timers (docs/formats/link.md).

All timers of the link are here, the board only reacts. One operation runs at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from mcu_bridge.lines.protocol import Line

Bytes = bytes | bytearray | memoryview
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Patience:
    """How long the host waits, in seconds. All are our choice.

    first_s: before the first repeat of a command; each further wait is twice as long, to 2 s.
    answer_s: for a command in all; then NoAnswer.
    progress_s: for a transfer to move on; then NoAnswer. A board that trains between two blocks
    is silent meanwhile, so a caller that knows of slow samples gives `send` more.
    """

    first_s: float = 0.25
    answer_s: float = 5.0
    progress_s: float = 10.0


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


class Link:
    """The link over `line`, which it owns: `close` closes it. An async context manager.

    Every method raises LineLost when the line is gone, NoAnswer when the board stays silent,
    DeviceRestarted when it has lost its state, WrongVersion when it speaks another link.
    A cancelled call leaves the link fit for the next one.
    """

    def __init__(self, line: Line, patience: Patience | None = None) -> None:
        self.line = line
        self.patience = patience or Patience()

    async def command(
        self, type: int, payload: bytes = b"", *, patience_s: float | None = None
    ) -> Response:
        """Have the board execute a command (0x01..0x3F) once; returns its response.

        The payload is the response as it came, at least a status byte; statuses other than
        NOT_IDENTIFIED are the caller's to judge. `patience_s` replaces Patience.answer_s.
        """
        raise NotImplementedError

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
        """
        raise NotImplementedError

    async def receive(
        self,
        transfer: int,
        total: int,
        *,
        patience_s: float | None = None,
        progress: Progress | None = None,
    ) -> bytes:
        """The `total` bytes of the transfer that a response opened."""
        raise NotImplementedError

    async def poll(self, transfer: int, *, patience_s: float | None = None) -> Polled:
        """How far the board is with a transfer to it, or with a phase on its sensor."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the line; a call that waits raises LineLost."""
        raise NotImplementedError

    async def __aenter__(self) -> Link:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await self.close()

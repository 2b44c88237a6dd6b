"""A line: bytes to and from one board, in order, some of them wrong or missing."""

from __future__ import annotations

from typing import Protocol


class Line(Protocol):
    """One open line. Read by one task, written by one task; `close` may come from any.

    name: the URL by which it was opened, for messages.
    """

    name: str

    async def read(self) -> bytes:
        """At least one byte: what has arrived. Raises LineLost when the line is gone or closed."""
        ...

    async def write(self, data: bytes) -> None:
        """Return when the line has taken all of `data`; raises LineLost when it is gone."""
        ...

    async def close(self) -> None:
        """Free the line, and end what runs behind it; a second call does nothing."""
        ...

"""A line over one file descriptor that can be waited for: a terminal, a socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
import termios

from mcu_bridge.errors import LineLost

_CHUNK = 65536
_MOST_WAITING = 1 << 20  # bytes that nobody reads, before they stay where they are


class DescriptorLine:
    """A Line over `descriptor`, which it makes non-blocking, owns and closes.

    gone: what the end of the line means, for people; it follows the name in the message.
    """

    def __init__(self, name: str, descriptor: int, gone: str) -> None:
        self.name = name
        self._descriptor = descriptor
        self._gone = gone
        self._arrived = bytearray()
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._listening = False
        self._lost: LineLost | None = None
        os.set_blocking(descriptor, False)

    async def read(self) -> bytes:
        while not self._arrived:
            if self._lost is not None:
                raise LineLost(str(self._lost))
            self._listen()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        data = bytes(self._arrived)
        self._arrived.clear()
        return data

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            if self._lost is not None:
                raise LineLost(str(self._lost))
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:
                await self._until_writable()
            except OSError as error:
                self._lose(error.strerror)

    async def close(self) -> None:
        self.close_now()

    def close_now(self) -> None:
        """Close without waiting for anything."""
        if self._descriptor < 0:
            return
        self._lose("closed")
        with contextlib.suppress(termios.error):  # else a terminal waits for what it cannot send
            termios.tcflush(self._descriptor, termios.TCOFLUSH)
        os.close(self._descriptor)
        self._descriptor = -1

    def _listen(self) -> None:
        # Stays registered from then on: to register for each read costs more than the read.
        if not self._listening:
            asyncio.get_running_loop().add_reader(self._descriptor, self._readable)
            self._listening = True

    def _readable(self) -> None:
        try:
            data = os.read(self._descriptor, _CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:  # EIO: the terminal's other end has gone
            self._lose(error.strerror)
            return
        if not data:
            self._lose("end of file")
            return
        self._arrived += data
        _settle(self._reader)
        if len(self._arrived) > _MOST_WAITING:
            self._stop_listening()

    async def _until_writable(self) -> None:
        loop = asyncio.get_running_loop()
        self._writer = loop.create_future()
        loop.add_writer(self._descriptor, _settle, self._writer)
        try:
            await self._writer
        finally:
            self._stop_waiting_to_write()

    def _stop_waiting_to_write(self) -> None:
        if self._writer is not None:
            if self._descriptor >= 0:
                asyncio.get_running_loop().remove_writer(self._descriptor)
            _settle(self._writer)
            self._writer = None

    def _stop_listening(self) -> None:
        if self._listening:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            self._listening = False

    def _lose(self, reason: str | None) -> None:
        if self._lost is None:
            self._lost = LineLost(f"{self.name}: {self._gone} ({reason})")
        self._stop_listening()
        self._stop_waiting_to_write()
        _settle(self._reader)


def _settle(future: asyncio.Future[None] | None) -> None:
    if future is not None and not future.done():
        future.set_result(None)

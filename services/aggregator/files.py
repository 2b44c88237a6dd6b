"""The files that runs need: on disk when whoever puts one in is answered, whole for who asks.

Files stay for as long as the database does. There is a limit to how many and how large they are
together, and one for those that are on their way in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

from services.aggregator.ports import FileStore
from services.hosting.errors import Full, NotFound, NotReady
from tinyfleet.logs import fields
from tinyfleet.run_files import MAX_FILE_BYTES, PART_BYTES, Arriving, RunFile, check_sha256

MAX_ARRIVING = 4  # our choice: files that are in memory because they are not whole yet

log = logging.getLogger("files")

InThread = Callable[..., Awaitable[Any]]
"""The result of a call that uses the journal, made in its thread; see GroupCommit.run."""


@dataclass(frozen=True)
class Quota:
    """How many files may be stored, and how many bytes they may have together."""

    files: int = 256
    bytes: int = 1024**3


class Files:
    """Takes files in and gives them out. Belongs to one event loop."""

    def __init__(self, store: FileStore, in_thread: InThread, quota: Quota) -> None:
        self._store = store
        self._in_thread = in_thread
        self._quota = quota
        self._arriving = 0
        self._storing = asyncio.Lock()

    async def is_there(self, file: RunFile) -> bool:
        """Whether the file is stored."""
        size: int | None = await self._in_thread(self._store.size, file.sha256)
        return size == file.size

    async def check(self, needed: Iterable[RunFile]) -> None:
        """Raise NotReady unless all of these files are here."""
        for file in needed:
            if not await self.is_there(file):
                raise NotReady(
                    f"the run needs the file {file}, which is not here: start it with "
                    "'tinyfleet run start' and name the file, which sends it"
                )

    async def put(self, file: RunFile, parts: AsyncIterator[bytes]) -> None:
        """Store a file that is not here yet; it is on disk when this returns.

        Raises InvalidInput when what comes is another file, Full when there is no room.
        """
        if self._arriving >= MAX_ARRIVING:
            raise Full(f"{MAX_ARRIVING} files of up to {MAX_FILE_BYTES} bytes arrive: try again")
        self._arriving += 1
        try:
            await self._check_room(file)
            arriving = Arriving(file)
            async for part in parts:
                if arriving.add(part):
                    break
            content = await asyncio.to_thread(arriving.content)
            await self._keep(file, content)
        finally:
            self._arriving -= 1

    async def fetch(self, sha256: str) -> AsyncIterator[tuple[int, bytes]]:
        """The size of a file and its next part, for each of its parts. Raises NotFound."""
        size = await self._in_thread(self._store.size, check_sha256(sha256))
        if size is None:
            raise NotFound(f"there is no file {sha256[:12]}... here: whoever starts a run puts it")
        for number in range(-(-size // PART_BYTES)):
            yield size, await self._in_thread(self._store.part, sha256, number)

    async def _keep(self, file: RunFile, content: bytes) -> None:
        async with self._storing:  # one after the other, or two would fit that do not fit both
            if await self.is_there(file):
                return
            await self._check_room(file)
            await self._in_thread(self._store.put, file, content)
        log.info("file stored", extra=fields(sha256=file.sha256, bytes=file.size))

    async def _check_room(self, file: RunFile) -> None:
        files, size = await self._in_thread(self._store.usage)
        if files >= self._quota.files:
            raise Full(f"{files} files are stored already: raise the aggregator's --stored-files")
        if size + file.size > self._quota.bytes:
            raise Full(
                f"{size:,} bytes of files are stored and {file.size:,} more are over the limit: "
                "raise the aggregator's --stored-bytes"
            )

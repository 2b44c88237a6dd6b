"""The files that runs need, such as extractors: in a folder, by hash, fetched once.

What is read is checked each time, and fetched again where it is damaged. A folder that cannot be
written costs a fetch whenever the agent starts, and nothing else: the log says so.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.logs import fields
from tinyfleet.run_files import MAX_FILE_BYTES, RunFile, check_content

MAX_KEPT_BYTES = 4 * MAX_FILE_BYTES  # our choice: then those that were used longest ago go

log = logging.getLogger("files")

Fetch = Callable[[RunFile], Awaitable[bytes]]
"""Gets the content of a file from the aggregator, verified."""


def default_folder(environment: Mapping[str, str]) -> Path:
    """Where files are kept unless somebody says otherwise: with the caches of the user."""
    cache = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME") or "/tmp", ".cache")  # noqa: S108
    return Path(cache) / "tinyfleet" / "models"


class ModelFiles:
    """The files of this process: its members share them. Belongs to one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._one_at_a_time = asyncio.Lock()

    async def content(self, file: RunFile, fetch: Fetch) -> bytes:
        """The content of a file, from the folder or else from `fetch`; raises what that raises."""
        async with self._one_at_a_time:
            found = await asyncio.to_thread(self._read, file)
            if found is None:
                found = await fetch(file)
                log.info("file fetched", extra=_named(file))
                await asyncio.to_thread(self._keep, file, found)
            return found

    def _read(self, file: RunFile) -> bytes | None:
        path = self._folder / file.sha256
        try:
            with path.open("rb") as opened:
                content = opened.read(MAX_FILE_BYTES + 1)
            check_content(file, content)
        except FileNotFoundError:
            return None
        except (OSError, InvalidInput) as error:
            log.warning("file of no use, fetched again", extra=_named(file, reason=error))
            return None
        _touch(path)
        return content

    def _keep(self, file: RunFile, content: bytes) -> None:
        try:
            write_whole(self._folder / file.sha256, content)
            self._drop_oldest()
        except OSError as error:
            reason = error.strerror or str(error)
            where = {"folder": self._folder, "reason": reason}
            log.warning("file not kept, give another --models", extra=_named(file, **where))

    def _drop_oldest(self) -> None:
        """Keep those that were used last, up to MAX_KEPT_BYTES."""
        kept = 0
        paths = [path for path in self._folder.iterdir() if len(path.name) == 64]
        for path in sorted(paths, key=lambda one: one.stat().st_mtime, reverse=True):
            kept += path.stat().st_size
            if kept > MAX_KEPT_BYTES:
                path.unlink(missing_ok=True)


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except OSError:
        return  # it is read-only: then nothing is dropped from it either


def _named(file: RunFile, **values: object) -> dict[str, object]:
    return fields(sha256=file.sha256, bytes=file.size, **values)

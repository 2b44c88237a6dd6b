"""Tells whoever watches over an agent that its event loop turns: it has no port to be asked on.

With the setting `alive_file` the loop touches that file every few seconds; `python -m
edge_agents.alive FILE` ends with 0 while it was touched of late, else with 1 and a line that says
why. It says nothing of the fleet: an agent that waits for its coordinator is in order, and starting
it anew would not bring that back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields

BEAT_S = 5.0
STALE_S = 30.0  # six beats: a busy machine is late, one that hangs is later

log = logging.getLogger("agent")


@contextlib.asynccontextmanager
async def alive_file(path: Path | None) -> AsyncIterator[None]:
    """Touch `path` at once and every BEAT_S seconds; it is gone afterwards. None: do nothing.

    Raises InvalidInput when the file cannot be made.
    """
    if path is None:
        yield
        return
    if reason := _touch(path):
        raise InvalidInput(f"cannot write the alive file {path}: {reason}")
    beating = asyncio.create_task(_beat(path))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)
        _remove(path)


async def _beat(path: Path) -> None:
    while True:
        await asyncio.sleep(BEAT_S)
        if reason := _touch(path):  # whoever watches will see it grow old
            log.warning("cannot touch the alive file", extra=fields(file=path, reason=reason))


def _touch(path: Path) -> str | None:
    """Touch the file, a matter of microseconds; why it cannot be done, if it cannot."""
    try:
        path.touch()
    except OSError as error:
        return error.strerror
    return None


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it grows old all the same
        path.unlink()


def why_not_alive(path: Path, now: float) -> str:
    """Why the agent of this file is not alive at `now` (Unix time, seconds); empty when it is."""
    try:
        age = now - path.stat().st_mtime
    except OSError as error:
        return f"no agent is alive: {path}: {error.strerror}"
    return f"the agent gave no sign of life for {age:.0f} s" if age > STALE_S else ""


def main() -> None:
    """Entry point of `python -m edge_agents.alive FILE`."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edge_agents.alive FILE")
    sys.exit(why_not_alive(Path(sys.argv[1]), time.time()) or 0)


if __name__ == "__main__":
    main()

"""Finds out why the coordinator hung up, once for each time that it is away.

By a process of its own, which then ends: it takes OpenSSL, which an agent does without.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from tinyfleet.security.handshakes import HUNG_UP

LIMIT_S = 15.0  # our choice: it takes 4 s at most, and a busy Pi some more to start it
_PROBE = "tinyfleet.security.probing"

Ask = Callable[[], Awaitable[str]]
"""ask() gives the cause in one line, "" when it is not to be found out."""


class Diagnosis:
    """Replaces the reason for a lost connection that says little by one that says more."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._found = ""

    async def of(self, reason: str) -> str:
        """The reason, or what is behind it."""
        if reason != HUNG_UP:
            return reason
        self._found = self._found or await self._ask() or reason
        return self._found

    def reset(self) -> None:
        """The coordinator answered."""
        self._found = ""


def probing_process(address: str, tls: Path | None) -> Ask:
    """Asks with `tinyfleet.security.probing`, in a process of its own."""

    async def ask() -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _PROBE, address),
            *(("--tls", str(tls)) if tls else ()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                said, _ = await process.communicate()
        except TimeoutError:
            return ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        return said.decode("utf-8", "replace").strip()

    return ask

"""Has the certificate renewed before it ends: by a process of its own, which then ends.

Signing needs `cryptography`, some 12 MB that an agent has no other use for.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from edge_agents.reconnect import Clock
from tinyfleet.errors import InvalidInput
from tinyfleet.logs import fields
from tinyfleet.security.folder import TlsFolder

LOOK_EVERY_S = 3600.0  # our choice: a certificate lives for months
_RENEWER = "tinyfleet.security.joining"

log = logging.getLogger("renewal")

Renew = Callable[[], Awaitable[str]]
"""renew() replaces the files; gives why it could not, "" when it could."""


async def keep_certificate(
    folder: Path,
    renew: Renew,
    clock: Clock | None = None,
    now: Callable[[], float] = time.time,
) -> None:
    """Renew the certificate in `folder` whenever two thirds of its life are over, for ever."""
    clock, files = clock or Clock(), TlsFolder(folder, now)
    while True:
        try:
            material = files.read()
        except InvalidInput as error:
            log.error("certificate not usable", extra=fields(reason=error))
        else:
            life_s = material.expires_s - material.begins_s
            if now() >= material.begins_s + 2 * life_s / 3:
                _say(await renew(), material.expires_s - now())
        await clock.sleep(LOOK_EVERY_S * (0.5 + clock.draw()))


def renewing_process(coordinator: str, folder: Path) -> Renew:
    """Renews at the coordinator, in a process of its own."""

    async def renew() -> str:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", _RENEWER, "--coordinator", coordinator, "--tls", str(folder)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, said = await process.communicate()
        last = (said.decode("utf-8", "replace").strip().splitlines() or [""])[-1]
        return "" if process.returncode == 0 else last or f"status {process.returncode}"

    return renew


def _say(problem: str, left_s: float) -> None:
    if problem:
        about = fields(days_left=round(left_s / 86_400, 1), reason=problem)
        log.warning("certificate not renewed, trying again", extra=about)
    else:
        log.info("certificate renewed")

"""Several things at once, until the first of them ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any


async def first_of(
    *waiting: Coroutine[Any, Any, object], then: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Return, or raise, when the first of them does; the others are cancelled.

    then: done as soon as the first has ended, while the others still run.
    """
    tasks = [asyncio.create_task(one) for one in waiting]
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if then is not None:
            await then()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()

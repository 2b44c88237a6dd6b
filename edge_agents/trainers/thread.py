"""One thread for everything that blocks: training, reading data, building a learner."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

Result = TypeVar("Result")


class WorkThread:
    """Runs functions one after the other in a thread of its own.

    Two things a ThreadPoolExecutor does not do: there is no second future behind asyncio's, which
    costs time; and a process that was told to stop does not wait at its exit for a training that
    takes minutes, because the thread is a daemon.
    """

    def __init__(self, name: str = "training") -> None:
        self._jobs: SimpleQueue[tuple[Callable[[], Any], asyncio.Future[Any]]] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._started = False

    async def run(self, function: Callable[[], Result]) -> Result:
        """What `function` returns or raises. Cancelling does not stop a function that has begun."""
        if not self._started:
            self._thread.start()
            self._started = True
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._jobs.put((function, future))
        return await future

    def _serve(self) -> None:
        while True:
            function, future = self._jobs.get()
            try:
                settle = partial(_succeed, future, function())
            except BaseException as error:  # noqa: BLE001 - whoever awaits it handles it
                settle = partial(_fail, future, error)
            try:
                future.get_loop().call_soon_threadsafe(settle)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more
            del function, future, settle  # while this thread waits, it keeps nothing alive


def _succeed(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)

"""Services whose answers come later, from the event loop, while the executor goes on.

rclpy's executor either waits inside a service's callback or, given a coroutine, asks it again and
again whether it is done. Here the callback only hands the request to the loop; the answer is sent
by the executor once it is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any

from rclpy.node import Node
from rclpy.service import Service

Work = Callable[[Any, Any], Awaitable[Any]]
"""await work(request, response) gives the response; it runs in the event loop."""

log = logging.getLogger("ros")


def create_service(
    node: Node, kind: type[Any], name: str, work: Work, loop: asyncio.AbstractEventLoop
) -> Service[Any, Any]:
    """A service of the node that `work` answers."""
    service = node.create_service(kind, name, lambda request, response: response)
    answer_from(service, node, work, loop)
    return service


def answer_from(
    service: Service[Any, Any], node: Node, work: Work, loop: asyncio.AbstractEventLoop
) -> None:
    """Let `work` answer an existing service. Call it before the executor has the node."""
    send = service.send_response

    def begin(request: Any, response: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(_awaited(work, request, response), loop)

    def send_once_done(answer: Future[Any], header: Any) -> None:
        answer.add_done_callback(lambda done: _post(node, _send, send, done, header))

    service.callback = begin
    service.send_response = send_once_done


async def _awaited(work: Work, request: Any, response: Any) -> Any:
    return await work(request, response)


def _post(node: Node, function: Callable[..., None], *arguments: Any) -> None:
    """Have the executor call it in its thread, unless it is gone."""
    executor = node.executor
    if executor is not None:
        executor.create_task(function, *arguments)


def _send(send: Callable[[Any, Any], None], answer: Future[Any], header: Any) -> None:
    if answer.cancelled():
        return
    try:
        send(answer.result(), header)
    except Exception:
        log.exception("a service could not answer")

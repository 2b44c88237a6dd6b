"""How large a message may be, and that each one that is larger is refused and noted.

gRPC holds a message in memory as a whole before it asks anybody, so there are two bounds: what is
up to the hard one is refused here, in our words; the rest gRPC cuts off, and we note that it did.
A call reads its messages after it was let in. So all that callers can have held is theirs who may
call, for each of their open calls one message below the hard bound.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NamedTuple

from services.hosting.errors import TooLarge

MAX_REQUEST_BYTES = 1024 * 1024  # our choice: the largest of ours, a chunk, has a quarter of it
HARD_MAX_BYTES = 2 * MAX_REQUEST_BYTES
_CUT = f"a message has at most {MAX_REQUEST_BYTES} bytes: one that has far more was cut off"
_GRPC = logging.getLogger("grpc._cython.cygrpc")
_FAILED = "Failed to receive any message from Core"  # gRPC's, with debug level


class _Oversized(NamedTuple):
    """Stands for a message of so many bytes."""

    size: int


def bounded(deserialize: Any) -> Any:
    """A deserializer that does not look at what is too large."""
    return lambda data: (
        deserialize(data) if len(data) <= MAX_REQUEST_BYTES else _Oversized(len(data))
    )


async def only_message(requests: Any) -> Any:
    """The message of a call that has one; raises TooLarge."""
    async with contextlib.aclosing(aiter(requests)) as closing:  # it keeps what it gave last
        async for request in closing:
            return _checked(request)
    raise TooLarge(_CUT)  # gRPC has ended the call already


async def each_message(requests: Any) -> AsyncIterator[Any]:
    """The messages as they come; raises TooLarge with the first one that is."""

    async def checked() -> AsyncIterator[Any]:
        async with contextlib.aclosing(aiter(requests)) as closing:
            async for request in closing:
                yield _checked(request)

    return checked()


def _checked(request: Any) -> Any:
    if isinstance(request, _Oversized):
        raise TooLarge(f"a message has at most {MAX_REQUEST_BYTES} bytes, got {request.size}")
    return request


@contextlib.contextmanager
def cut_messages(note: Callable[[str], None]) -> Iterator[None]:
    """Call `note` from within the task whose stream is cut off, with the reason.

    To the one who reads, the stream has ended, as it does when the caller is done. Only gRPC's own
    log tells the two apart. It is not switched on, which would cost a record for every message:
    the one line is looked for where it is said.
    """
    said = _GRPC.debug

    def debug(message: str, *values: Any, **options: Any) -> None:
        if message.startswith(_FAILED):
            note(_CUT)
        said(message, *values, **options)

    vars(_GRPC)["debug"] = debug
    try:
        yield
    finally:
        vars(_GRPC)["debug"] = said

"""From our errors to gRPC statuses: one table, one place.

Whatever is not in the table is our fault: the caller gets INTERNAL and a fixed phrase, the log gets
the traceback.
"""

from __future__ import annotations

import logging

import grpc

from tinyfleet.errors import (
    Diverged,
    DoesNotFit,
    InvalidInput,
    Refused,
    TinyFleetError,
    Unreachable,
)


class NotFound(TinyFleetError):
    """There is nothing of that name; the caller may have to create it first."""


class Conflict(TinyFleetError):
    """It is there already, and it is different."""


class NotReady(TinyFleetError):
    """The state does not allow it (yet)."""


class StorageFailed(TinyFleetError):
    """State could not be written; nothing was acknowledged. Try again when there is room."""


class Full(TinyFleetError):
    """There is no room for it: make some, or raise the limit that the message names."""


class Occupied(TinyFleetError):
    """Another process holds the address or the state folder: stop it or choose another one."""


class Forbidden(TinyFleetError):
    """Whoever calls may not do that; the message says who it is and what it wanted."""


class TooLarge(Forbidden):
    """A message has more bytes than one may have."""


STATUS_OF: dict[type[TinyFleetError], grpc.StatusCode] = {
    InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.ALREADY_EXISTS,
    NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    StorageFailed: grpc.StatusCode.UNAVAILABLE,
    Full: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Occupied: grpc.StatusCode.UNAVAILABLE,
    DoesNotFit: grpc.StatusCode.FAILED_PRECONDITION,
    Diverged: grpc.StatusCode.FAILED_PRECONDITION,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refused: grpc.StatusCode.FAILED_PRECONDITION,
    Unreachable: grpc.StatusCode.UNAVAILABLE,
}


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and the text that the caller of an RPC gets for `error`."""
    for kind in type(error).__mro__:
        if kind in STATUS_OF:
            return STATUS_OF[kind], str(error)
    logging.getLogger("rpc").error("unexpected error", exc_info=error)
    return grpc.StatusCode.INTERNAL, "internal error; the service's log has the details"

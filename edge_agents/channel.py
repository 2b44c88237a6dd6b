"""Channels to the services, and the one error for all the ways in which a call can end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc

from tinyfleet.security.channels import aio_channel
from tinyfleet.security.handshakes import explained

_OPTIONS = [
    # Every attempt has a channel of its own, so that our backoff is the only one: shared
    # subchannels would add gRPC's.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.min_reconnect_backoff_ms", 10_000),  # how long connecting may take
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),  # a proxy made for the web would cut a stream that is idle
    # A ping in ten minutes costs next to nothing. What counts is the timeout, which gRPC then also
    # sets as TCP_USER_TIMEOUT: a link that died silently is noticed 20 s after the next heartbeat
    # or update.
    ("grpc.keepalive_time_ms", 600_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.bdp_probe", 0),  # its pings would cost more bytes than small rounds have to spare
    # Without the probes windows do not grow: this one holds a chunk of a large model.
    ("grpc.http2.lookahead_bytes", 256 * 1024),
    ("grpc.max_receive_message_length", 4 * 1024 * 1024),
]


class Lost(Exception):
    """A call ended early; the connection may be gone. code: what gRPC says, None if nothing."""

    def __init__(self, reason: str, code: grpc.StatusCode | None = None) -> None:
        super().__init__(reason)
        self.code = code


def open_channel(address: str, service: str, tls: Path | None) -> grpc.aio.Channel:
    """A channel to the `service` at `address`, host:port; connects with the first call.

    Raises InvalidInput, see `tinyfleet.security.channels.aio_channel`.
    """
    return aio_channel(address, service, tls, _OPTIONS)


@contextlib.contextmanager
def lost_calls() -> Iterator[None]:
    """Raises Lost for every way in which gRPC reports that a call is over.

    A call that is cancelled because its channel is closed raises CancelledError, as if the task
    that awaits it was cancelled; the two are told apart here.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise Lost(_reason(error), error.code()) from None
    except (asyncio.InvalidStateError, grpc.aio.UsageError):
        raise Lost("the call has ended") from None
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Lost("the connection was closed") from None


def _reason(error: grpc.aio.AioRpcError) -> str:
    details = (error.details() or "").strip().split("\n")[0]
    if (cause := explained(details)) is not None:
        return cause
    if details.startswith("failed to connect"):  # then it tells the same three times over
        details = details.rpartition(": ")[2]
    details = details[:200]
    return f"{error.code().name.lower()}: {details}" if details else error.code().name.lower()

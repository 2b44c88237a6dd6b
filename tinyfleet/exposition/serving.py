"""Answers scrapes: a GET of /metrics, over HTTP, and nothing else.

Nobody is asked who they are, and nothing can be changed here; what is told are numbers and names of
agents. So it listens where the operator says, which is nowhere by default.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable

from tinyfleet.config import check_listen_address
from tinyfleet.errors import InvalidInput
from tinyfleet.exposition.text import CONTENT_TYPE, Family, text_of
from tinyfleet.logs import fields
from tinyfleet.security.address import is_loopback

PATH = "/metrics"
MAX_HEAD_BYTES = 8 * 1024  # our choice: of a request; Prometheus sends some 300
PATIENCE_S = 5.0  # our choice: for one to arrive, and for its answer to be taken
MAX_CONNECTIONS = 16  # our choice
HELP = (
    "address to answer Prometheus on, port alone: on loopback; whoever reaches it reads all, "
    "without TLS; empty: none"
)

log = logging.getLogger("scrapes")

Families = Callable[[], Iterable[Family]]


def scrape_address(text: str) -> str:
    """host:port of a setting that may have the port alone, which means loopback."""
    return text if ":" in text else f"127.0.0.1:{text}"


def check_scrape_address(name: str, text: str) -> None:
    """Raise InvalidInput unless `text` is host:port, a port, or empty."""
    if text:
        check_listen_address(name, scrape_address(text))


@contextlib.asynccontextmanager
async def answering_scrapes(setting: str, families: Families) -> AsyncIterator[str]:
    """Answer scrapes with `families()` meanwhile; gives the address, "" where none is wanted.

    setting: as `check_scrape_address` has it. Raises InvalidInput when it cannot listen there.
    """
    if not setting:
        yield ""
        return
    host, _, port = scrape_address(setting).rpartition(":")
    scrapes = _Scrapes(families)
    try:
        server = await asyncio.start_server(
            scrapes.answer, host.strip("[]"), int(port), limit=MAX_HEAD_BYTES
        )
    except OSError as error:
        raise InvalidInput(
            f"cannot answer Prometheus on {host}:{port}: {error.strerror or error}; "
            "choose another --prometheus"
        ) from None
    address = f"{host}:{server.sockets[0].getsockname()[1]}"
    say = log.info if is_loopback(host) else log.warning
    say("answering Prometheus, whoever asks", extra=fields(address=address, path=PATH))
    try:
        yield address
    finally:
        server.close()
        scrapes.close()


class _Scrapes:
    """The connections; one request each."""

    def __init__(self, families: Families) -> None:
        self._families = families
        self._open: set[asyncio.Task[None]] = set()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls us in one
        if len(self._open) >= MAX_CONNECTIONS:
            writer.transport.abort()
            return
        self._open.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    writer.write(self._response(await _request_line(reader)))
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        finally:
            self._open.discard(task)
            writer.transport.abort()

    def close(self) -> None:
        """Hang up on those who still read."""
        for task in self._open:
            task.cancel()

    def _response(self, request_line: bytes) -> bytes:
        method, _, rest = request_line.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            return _message("405 Method Not Allowed", "GET only\n")
        if path != PATH.encode():
            return _message("404 Not Found", f"it is {PATH}\n")
        try:
            text = text_of(self._families())
        except Exception as error:  # whatever it is, the process goes on
            log.error("unexpected error", exc_info=error)
            return _message("500 Internal Server Error", "internal error; see the log\n")
        return _message("200 OK", text, CONTENT_TYPE, with_body=method == b"GET")


async def _request_line(reader: asyncio.StreamReader) -> bytes:
    """The first line of a request, once all of its head is there; b"" when it is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return b""
    return head.partition(b"\r\n")[0]


def _message(
    status: str, text: str, kind: str = "text/plain; charset=utf-8", with_body: bool = True
) -> bytes:
    body = text.encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + (body if with_body else b"")

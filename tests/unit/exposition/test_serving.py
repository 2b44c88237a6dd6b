"""Scrapes are answered; everything else is turned away, and costs nothing."""

import asyncio
import logging

import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.exposition import serving
from tinyfleet.exposition.serving import (
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    answering_scrapes,
    check_scrape_address,
)
from tinyfleet.exposition.text import Family, Sample

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def one_gauge():
    return [Family("answer", "gauge", "What is asked for.", [Sample(42)])]


async def asked(address, request):
    """All that comes back."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def test_a_scrape_is_answered():
    async with answering_scrapes("0", one_gauge) as address:
        assert address.startswith("127.0.0.1:")
        head, _, body = (await asked(address, GET)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4;")
    assert f"Content-Length: {len(body)}".encode() in head
    assert body.endswith(b"\nanswer 42\n")


async def test_nothing_listens_unless_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(asyncio, "start_server", None)
    async with answering_scrapes("", one_gauge) as address:
        assert address == ""


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /metrics/../etc HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01 hello\r\n\r\n", b"405"),
        (b"GET /metrics " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n", b"405"),
    ],
)
async def test_anything_else_is_turned_away(request_, status):
    async with answering_scrapes("0", one_gauge) as address:
        answer = await asked(address, request_)
        assert answer == b"" or answer.startswith(b"HTTP/1.1 " + status)
        assert b"answer 42" not in answer
        assert b"answer 42" in await asked(address, GET)


async def test_head_has_no_body():
    async with answering_scrapes("0", one_gauge) as address:
        answer = await asked(address, GET.replace(b"GET", b"HEAD"))
    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert answer.endswith(b"\r\n\r\n")


async def test_whoever_says_nothing_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE_S", 0.01)
    async with answering_scrapes("0", one_gauge) as address:
        assert await asked(address, b"GET /metr") == b""


async def test_a_crowd_is_not_let_in():
    async with answering_scrapes("0", one_gauge) as address:
        host, _, port = address.rpartition(":")
        crowd = [await asyncio.open_connection(host, int(port)) for _ in range(MAX_CONNECTIONS)]
        for _, writer in crowd:
            writer.write(b"GET")
            await writer.drain()
        assert await asked(address, GET) == b""
        for _, writer in crowd:
            writer.transport.abort()
        answer = b""
        while not answer:  # until it has noticed
            answer = await asked(address, GET)
        assert b"answer 42" in answer


async def test_a_reading_that_fails_is_an_answer_and_a_log_line(caplog):
    def broken():
        raise RuntimeError("broken")

    async with answering_scrapes("0", broken) as address:
        assert (await asked(address, GET)).startswith(b"HTTP/1.1 500")
    assert "unexpected error" in caplog.text


async def test_a_taken_port_is_said():
    async with answering_scrapes("0", one_gauge) as address:
        with pytest.raises(InvalidInput, match="cannot answer Prometheus on"):
            async with answering_scrapes(address, one_gauge):
                pass


async def test_beyond_loopback_the_log_warns(caplog):
    caplog.set_level(logging.INFO)
    async with answering_scrapes("0.0.0.0:0", one_gauge):
        pass
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("text", ["", "9310", "127.0.0.1:9310", "0.0.0.0:0", "[::1]:9310"])
def test_addresses(text):
    check_scrape_address("prometheus", text)


@pytest.mark.parametrize("text", ["x", "host:", ":9310", "99999", "host:x"])
def test_no_addresses(text):
    with pytest.raises(InvalidInput, match="prometheus must be host:port"):
        check_scrape_address("prometheus", text)

"""The URL of a line: what kind it is, and where.

serial:///dev/ttyACM0?baud=1000000   a serial port (needs the extra [mcu])
pty:///dev/pts/3, or the bare path   a terminal as it is, without a speed of its own
tcp://192.0.2.7:4000                 a serial server
emulated://mps2-an386                the firmware under QEMU, one board for each time it is opened
emulated://host                      the firmware as a process of this machine
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from tinyfleet.errors import InvalidInput, one_line, unknown_name

DEFAULT_BAUD = 1_000_000  # MUST match what firmware/port/nrf52840 sets
EMULATED_BOARDS = ("mps2-an386", "host")
_SCHEMES = ("serial", "pty", "tcp", "emulated")
_LONGEST = 1000


@dataclass(frozen=True)
class LineUrl:
    """kind: serial, pty, tcp or emulated. target: a path, a host or a board. text: as it was given.

    port: of tcp. baud: of serial, bits a second.
    """

    kind: str
    target: str
    text: str
    port: int = 0
    baud: int = DEFAULT_BAUD


def parse_url(url: str) -> LineUrl:
    """The line that a URL names; raises InvalidInput, one clear line, when it names none."""
    if len(url) > _LONGEST or not url.isprintable():
        raise _bad(url, "it is too long or has characters that do not print")
    if url.startswith("/"):
        return LineUrl("pty", url, url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(url, str(error)) from None
    if parts.scheme not in _SCHEMES or "://" not in url:
        raise _bad(url, f"it must start with one of {', '.join(s + '://' for s in _SCHEMES)}")
    options = _options(parts, url)
    if parts.scheme == "tcp":
        return _tcp(parts, port, url)
    if parts.scheme == "emulated":
        return _emulated(parts, url)
    if parts.netloc or len(parts.path) < 2:
        raise _bad(url, f"a path has three slashes: {parts.scheme}:///dev/ttyACM0")
    baud = _baud(options["baud"], url) if "baud" in options else DEFAULT_BAUD
    return LineUrl(parts.scheme, parts.path, url, baud=baud)


def _options(parts: SplitResult, url: str) -> dict[str, str]:
    known = ("baud",) if parts.scheme == "serial" else ()
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in options:
        if not known:
            raise _bad(url, f"{parts.scheme}:// takes no options")
        if name not in known:
            raise unknown_name("option of a line", name, known)
    return options


def _baud(text: str, url: str) -> int:
    if not (text.isascii() and text.isdigit() and 300 <= int(text) <= 12_000_000):
        raise _bad(url, "baud is from 300 to 12000000")
    return int(text)


def _tcp(parts: SplitResult, port: int | None, url: str) -> LineUrl:
    if not parts.hostname or not port or parts.path.strip("/") or parts.username is not None:
        raise _bad(url, "it must be tcp://host:port")
    return LineUrl("tcp", parts.hostname, url, port=port)


def _emulated(parts: SplitResult, url: str) -> LineUrl:
    if parts.netloc not in EMULATED_BOARDS or parts.path.strip("/"):
        raise unknown_name("emulated board", parts.netloc + parts.path, EMULATED_BOARDS)
    return LineUrl("emulated", parts.netloc, url)


def _bad(url: str, reason: str) -> InvalidInput:
    return InvalidInput(f"'{one_line(url)}' is not the URL of a board: {reason}")

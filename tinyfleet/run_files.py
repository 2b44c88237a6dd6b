"""Files that runs need beside their spec, by hash: kept by the aggregator, fetched by agents.

Bytes, of whatever kind. `Arriving` is how they are taken in anywhere: in parts, in order, bounded
by what was announced, and of use only when the hash is right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tinyfleet.errors import InvalidInput

MAX_FILE_BYTES = 64 * 1024 * 1024  # our choice: as large as the largest model's parameters
PART_BYTES = 256 * 1024  # as of a model's chunks
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class RunFile:
    """Which file. sha256: of its content, in hex. size: bytes, 1 to MAX_FILE_BYTES.

    Raises InvalidInput when it cannot be one.
    """

    sha256: str
    size: int

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        if not 1 <= self.size <= MAX_FILE_BYTES:
            raise InvalidInput(f"a file has 1 to {MAX_FILE_BYTES} bytes, not {self.size}")

    def __str__(self) -> str:
        return f"{self.sha256[:12]}... of {self.size:,} bytes"


def check_sha256(sha256: str) -> str:
    """`sha256` if it is one as we write it; raises InvalidInput if not."""
    if not _SHA256.fullmatch(sha256):
        raise InvalidInput("a file's sha256 must be 64 digits of lower-case hex")
    return sha256


def file_of(content: bytes) -> RunFile:
    """The file that has this content."""
    return RunFile(hashlib.sha256(content).hexdigest(), len(content))


def parts_of_file(content: bytes) -> Iterator[bytes]:
    """The content in parts of PART_BYTES, the last one shorter."""
    for start in range(0, len(content), PART_BYTES):
        yield content[start : start + PART_BYTES]


class Arriving:
    """A file on its way in."""

    def __init__(self, file: RunFile) -> None:
        self._file = file
        self._data = bytearray()

    def add(self, part: bytes) -> bool:
        """Take the next part; True when the file is whole.

        Raises InvalidInput for a part that is empty, too large or goes beyond the file's end.
        """
        if not 1 <= len(part) <= PART_BYTES:
            raise InvalidInput(f"a part of a file has 1 to {PART_BYTES} bytes, got {len(part)}")
        if len(self._data) + len(part) > self._file.size:
            raise InvalidInput(f"more than the {self._file.size} bytes that were announced")
        self._data += part
        return len(self._data) == self._file.size

    def content(self) -> bytes:
        """The whole file; raises InvalidInput when it is cut short or has another hash."""
        if len(self._data) != self._file.size:
            raise InvalidInput(f"cut short: {len(self._data)} of {self._file.size} bytes")
        content = bytes(self._data)
        check_content(self._file, content)
        return content


def check_content(file: RunFile, content: bytes) -> None:
    """Raise InvalidInput unless `content` is that of `file`."""
    if len(content) != file.size or file_of(content).sha256 != file.sha256:
        raise InvalidInput(f"damaged: it is not the file {file}")

"""The file that a backup is: a header that says what is in it, databases, one digest of all.

The layout is specified in docs/formats/backup.md. It is read from the beginning to the end, in
pieces, and nothing of it is believed before it is checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import IO, Any

from tinyfleet.errors import InvalidInput
from tinyfleet.files import sync_folder

MAGIC = b"TFBACKUP"
FORMAT_VERSION = 1
NAMES = ("aggregator", "coordinator", "metrics")
MAX_HEADER_BYTES = 64 * 1024
MAX_DATABASE_BYTES = 1 << 40  # our choice: a terabyte
PIECE_BYTES = 1 << 20
_PREFIX = struct.Struct("<8sII")  # magic, format version, bytes of the header
_DIGEST_BYTES = 32
_WORDS = {
    "created": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII),
    "version": re.compile(r"[0-9A-Za-z.+-]{1,64}"),
    "sha256": re.compile(r"[0-9a-f]{64}"),
    "schema": re.compile(r"[0-9A-Za-z_]{1,32}"),
}


@dataclass(frozen=True)
class Part:
    """One database of a backup.

    name: its service's, one of NAMES. own_folder: whether it lay in a folder of that name, and not
    in the state folder itself. schema: its revision. bytes, sha256: of the file.
    """

    name: str
    own_folder: bool
    schema: str
    bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if self.name not in NAMES or type(self.own_folder) is not bool:
            raise InvalidInput("a backup's databases are those of the three services")
        if type(self.bytes) is not int or not 0 < self.bytes <= MAX_DATABASE_BYTES:
            raise InvalidInput(f"a backup's database has 1 to {MAX_DATABASE_BYTES} bytes")
        _check_words(self, "schema", "sha256")

    def path_in(self, state: Path) -> Path:
        """Where it lies under a state folder."""
        return (state / self.name if self.own_folder else state) / f"{self.name}.sqlite"


@dataclass(frozen=True)
class Contents:
    """What a backup's header says. created: UTC, as in 2026-11-30T22:15:00Z. version: TinyFleet's.

    parts: in the order in which they follow.
    """

    created: str
    version: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        _check_words(self, "created", "version")
        names = [part.name for part in self.parts]
        if not names or len(set(names)) < len(names):
            raise InvalidInput("a backup has one to three databases, of different services")

    @property
    def bytes(self) -> int:
        """Of all databases together."""
        return sum(part.bytes for part in self.parts)


def write_archive(path: Path, contents: Contents, files: Sequence[Path]) -> None:
    """Write a backup of the files, in the order of `contents.parts`; readable by its owner only.

    It is there as a whole or not at all, and never takes the place of another file. Raises
    InvalidInput when it is there already, or cannot be written.
    """
    check_free(path)
    try:
        handle, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                _write(file, contents, files)
                file.flush()
                os.fsync(file.fileno())
            _publish(Path(partial), path)
        finally:
            Path(partial).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        raise InvalidInput(f"cannot write backup {path}: {error.strerror}") from None


def check_free(path: Path) -> None:
    """Raise InvalidInput when there is a file of that name, which no backup takes the place of."""
    if path.exists() or path.is_symlink():
        raise InvalidInput(f"{path} is there already: choose another name, or move it away")


class Archive:
    """An open backup; its databases are read once, in their order."""

    def __init__(self, file: IO[bytes]) -> None:
        """Reads the header. Raises InvalidInput when it, or the file's length, cannot be right."""
        self._file = file
        self._digest = hashlib.sha256()
        self.contents = self._header()
        expected = file.tell() + self.contents.bytes + _DIGEST_BYTES
        _check_length(os.fstat(file.fileno()).st_size, expected)

    def read(self, part: Part) -> Iterator[bytes]:
        """The next database, in pieces; raises InvalidInput after the last if they are damaged."""
        digest, left = hashlib.sha256(), part.bytes
        while left:
            piece = self._take(min(left, PIECE_BYTES))
            digest.update(piece)
            left -= len(piece)
            yield piece
        if digest.hexdigest() != part.sha256:
            raise InvalidInput(f"backup is damaged: the SHA-256 of {part.name} does not match")

    def check_end(self) -> None:
        """Once all databases are read: raise InvalidInput unless the digest of all matches."""
        expected = self._digest.digest()
        if self._file.read(_DIGEST_BYTES + 1) != expected:
            raise InvalidInput("backup is damaged: its SHA-256 does not match")

    def _header(self) -> Contents:
        prefix = self._file.read(_PREFIX.size)
        if prefix[: len(MAGIC)] != MAGIC:
            raise InvalidInput("not a TinyFleet backup")
        if len(prefix) < _PREFIX.size:
            raise InvalidInput("backup is cut short")
        _, version, size = _PREFIX.unpack(prefix)
        if version != FORMAT_VERSION:
            raise InvalidInput(
                f"backup has format version {version}, this program reads {FORMAT_VERSION}"
            )
        if size > MAX_HEADER_BYTES:
            raise InvalidInput(f"backup is damaged: its header has over {MAX_HEADER_BYTES} bytes")
        self._digest.update(prefix)
        return _parsed(self._take(size))

    def _take(self, size: int) -> bytes:
        piece = self._file.read(size)
        if len(piece) < size:
            raise InvalidInput("backup is cut short")
        self._digest.update(piece)
        return piece


@contextlib.contextmanager
def open_archive(path: Path) -> Iterator[Archive]:
    """The backup in a file; raises InvalidInput with the file and what is wrong with it."""
    try:
        with path.open("rb") as file:
            yield Archive(file)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None


def sha256_of(path: Path) -> str:
    """SHA-256 of a file in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(file: IO[bytes], contents: Contents, files: Sequence[Path]) -> None:
    digest = hashlib.sha256()
    text = json.dumps(asdict(contents), sort_keys=True, separators=(",", ":")).encode("ascii")
    prefix = _PREFIX.pack(MAGIC, FORMAT_VERSION, len(text))
    for piece in (prefix + text, *(piece for path in files for piece in _pieces(path))):
        digest.update(piece)
        file.write(piece)
    file.write(digest.digest())


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _publish(partial: Path, path: Path) -> None:
    """Give a file its name, unless another one has it."""
    try:
        os.link(partial, path)
    except FileExistsError:
        check_free(path)
        raise
    except OSError:  # a file system without links, as on many a memory stick
        check_free(path)
        partial.rename(path)


def _parsed(text: bytes) -> Contents:
    try:
        document = json.loads(text.decode("ascii"))
    except (ValueError, RecursionError):
        raise InvalidInput("backup's header is not JSON") from None
    _check_keys("backup's header", document, Contents)
    if not isinstance(document["parts"], list) or len(document["parts"]) > len(NAMES):
        raise InvalidInput("a backup has one to three databases, of different services")
    for part in document["parts"]:
        _check_keys("backup's database", part, Part)
    return Contents(**document | {"parts": tuple(Part(**part) for part in document["parts"])})


def _check_keys(what: str, document: Any, kind: type[Any]) -> None:
    keys = {field.name for field in fields(kind)}
    if not isinstance(document, dict) or document.keys() != keys:
        raise InvalidInput(f"a {what} has exactly the keys {', '.join(sorted(keys))}")


def _check_words(of: object, *names: str) -> None:
    for name in names:
        value = getattr(of, name)
        if not isinstance(value, str) or not _WORDS[name].fullmatch(value):
            raise InvalidInput(f"backup is damaged: its header has no such {name}")


def _check_length(length: int, expected: int) -> None:
    if length < expected:
        raise InvalidInput(f"backup is cut short: {length} of {expected} bytes")
    if length > expected:
        raise InvalidInput(f"backup has bytes after its end: it should have {expected}")

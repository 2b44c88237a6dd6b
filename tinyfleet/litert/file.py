"""A `.tflite` file as bytes: bounded, and known by its SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tinyfleet.errors import InvalidInput
from tinyfleet.run_files import MAX_FILE_BYTES

_IDENTIFIER = slice(4, 8)  # where FlatBuffers put a file's identifier
_TFLITE = b"TFL3"


@dataclass(frozen=True)
class TfliteFile:
    """The content of a `.tflite` file. Only its size and its identifier are checked here.

    Raises InvalidInput when it has not 8 to MAX_FILE_BYTES bytes or is another kind of file.
    """

    content: bytes

    def __post_init__(self) -> None:
        if len(self.content) > MAX_FILE_BYTES:
            raise InvalidInput(
                f"a .tflite file has at most {MAX_FILE_BYTES} bytes, this one {len(self.content)}"
            )
        if self.content[_IDENTIFIER] != _TFLITE:
            raise InvalidInput("not a .tflite file: its identifier is not TFL3")

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, in hex: the identity of the file."""
        return hashlib.sha256(self.content).hexdigest()


def load_tflite(path: Path) -> TfliteFile:
    """The file at `path`; raises InvalidInput with the path and what is wrong with it."""
    try:
        with path.open("rb") as file:
            return TfliteFile(file.read(MAX_FILE_BYTES + 1))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror or error}") from None
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error}") from None

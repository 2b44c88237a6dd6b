"""Arrays of an `.npz` that somebody else made: bounded, never a pickle, refused in one line.

NumPy's own reader takes the size of an array on trust. Here a header is compared with the member
it stands in before memory is asked for, and large arrays can be read bit by bit.
"""

from __future__ import annotations

import itertools
import tokenize
import wave
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput

MAX_ARRAY_BYTES = 16_000_000  # our choice: of an array that is read whole
_UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    SyntaxError,  # NumPy reads an array's header as Python
    ValueError,
    tokenize.TokenError,
    wave.Error,
    zipfile.BadZipFile,
    zlib.error,
)


@contextmanager
def reading(what: str, path: Path, remedy: str) -> Iterator[None]:
    """Whatever a damaged file raises becomes one line that names the file."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput(f"cannot read {what} {path}: {error}") from None
    except _UNREADABLE as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        line = " ".join(reason.split())[:200]
        raise InvalidInput(f"cannot read {what} {path}: {line}; {remedy}") from None


@contextmanager
def open_array(
    archive: zipfile.ZipFile, name: str
) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any]]]:
    """A member of an .npz, positioned at its first value, with its shape and type."""
    if f"{name}.npy" not in archive.namelist():
        raise InvalidInput(f"it has no array '{name}'")
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as stream:
        shape, fortran, dtype = _read_header(stream, name)
        if dtype.hasobject:
            raise InvalidInput(f"array '{name}' is pickled, and a pickle can run any program")
        if fortran and len(shape) > 1:
            raise InvalidInput(f"array '{name}' must be in C order")
        if any(side < 0 for side in shape) or bytes_of(shape, dtype) > info.file_size:
            raise InvalidInput(f"array '{name}' is cut short")
        yield stream, shape, dtype


def read_array(
    archive: zipfile.ZipFile, name: str, max_bytes: int = MAX_ARRAY_BYTES
) -> npt.NDArray[Any]:
    """A whole array of the archive; read-only."""
    with open_array(archive, name) as (stream, shape, dtype):
        size = bytes_of(shape, dtype)
        if size > max_bytes:
            raise InvalidInput(f"array '{name}' is too large")
        return np.frombuffer(exactly(stream, size), dtype).reshape(shape)


def has_array(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether the archive holds the array."""
    return f"{name}.npy" in archive.namelist()


def bytes_of(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """The size of an array."""
    size = int(dtype.itemsize)
    for side in shape:
        size *= side
    return size


def exactly(stream: IO[bytes], size: int) -> bytes:
    """The next `size` bytes; raises EOFError when there are fewer."""
    data = stream.read(size)
    if len(data) != size:
        raise EOFError("the file is cut short")
    return data


def lengths_of(offsets: npt.NDArray[Any], most: int, longest: int) -> list[int]:
    """Lengths of the items between `offsets`; item i is `[offsets[i], offsets[i + 1])`.

    most: items. longest: values of one. The items must follow each other from the first value on.
    """
    if offsets.ndim != 1 or offsets.dtype.kind not in "iu":
        raise InvalidInput("offsets must be whole numbers, one more than items")
    if not 2 <= len(offsets) <= most + 1:
        raise InvalidInput(f"offsets must tell of 1 to {most} items")
    starts = [int(start) for start in offsets.tolist()]  # of any length: no sum overflows
    lengths = [after - start for start, after in itertools.pairwise(starts)]
    if starts[0] != 0 or min(lengths) < 1 or max(lengths) > longest:
        raise InvalidInput(f"offsets must begin at 0 and rise by 1 to {longest}")
    return lengths


def check_labels(labels: npt.NDArray[Any], count: int, classes: int) -> None:
    """Raise InvalidInput unless `labels` are `count` whole numbers of [0, classes)."""
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or len(labels) != count:
        raise InvalidInput("label must be a whole number for each item")
    if not ((labels >= 0) & (labels < classes)).all():
        raise InvalidInput(f"label must be 0 to {classes - 1}")


def _read_header(stream: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(stream)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(stream)
    raise InvalidInput(f"array '{name}' has the unknown format version {version}")

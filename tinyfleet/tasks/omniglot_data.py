"""Omniglot from disk: the repacked `.npz`, or the official folders or zips of drawings.

Both give the same thing: for each of the two official splits (`background`, 30 alphabets, to train;
`evaluation`, 10 others, to test), class by class, that character's drawings as 28 x 28 grey
images, 0 = paper, 255 = ink. Only one class is in memory at a time.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.tasks.npz import exactly, open_array, read_array, reading
from tinyfleet.tasks.png import decode_grey_png

SIDE = 28
SPLITS = ("background", "evaluation")
REMEDY = (
    "give omniglot.npz, or the folder that holds images_background and images_evaluation "
    "(folders or .zip), with --data or TINYFLEET_DATA"
)
MAX_CLASSES = 20_000
MAX_DRAWINGS = 1_000
_ORIGINAL_SIDE = 105
_MAX_PNG_BYTES = 65_536
Images = npt.NDArray[np.uint8]


class OmniglotData(Protocol):
    """Where the drawings come from."""

    drawings: int
    """Drawings of each character."""

    def class_count(self, split: str) -> int: ...

    def alphabets(self, split: str) -> list[str]:
        """The alphabet of each class of the split; raises InvalidInput where they are unknown."""
        ...

    def classes(self, split: str) -> Iterator[Images]:
        """`(drawings, 28 * 28) uint8` of each class of the split, in the same order."""
        ...


def open_omniglot(path: Path | None) -> OmniglotData:
    """The data at `path`; raises InvalidInput with the remedy when there is none."""
    if path is None:
        raise InvalidInput(f"task 'omniglot' needs its data: {REMEDY}")
    if not path.exists():
        raise InvalidInput(f"no Omniglot data at {path}: {REMEDY}")
    if path.is_dir() and (path / "omniglot.npz").exists():
        path = path / "omniglot.npz"
    if path.is_file() and not path.name.startswith("images_"):
        return NpzData(path)
    return ImageData(path.parent if path.name.startswith("images_") else path)


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading("Omniglot data", path, REMEDY)


class NpzData:
    """The `.npz` with the arrays `images`, `split` and `split_names`; pickles are refused.

    `alphabet`, the name of each class's alphabet, is asked for only where alphabets matter.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with _reading(path):
            self._split, self._names, self.drawings = self._read_index()

    def class_count(self, split: str) -> int:
        return int(np.count_nonzero(self._split == self._names.index(split)))

    def alphabets(self, split: str) -> list[str]:
        with _reading(self._path), zipfile.ZipFile(self._path) as archive:
            names = read_array(archive, "alphabet")
            if names.shape != self._split.shape or names.dtype.kind != "U":
                raise InvalidInput("alphabet must give one text for each class")
        return [str(name) for name in names[self._split == self._names.index(split)].tolist()]

    def classes(self, split: str) -> Iterator[Images]:
        wanted = self._split == self._names.index(split)
        size = self.drawings * SIDE * SIDE
        with (
            _reading(self._path),
            zipfile.ZipFile(self._path) as archive,
            open_array(archive, "images") as (stream, _, _),
        ):
            for is_wanted in wanted:
                data = exactly(stream, size)
                if is_wanted:
                    yield np.frombuffer(data, np.uint8).reshape(self.drawings, SIDE * SIDE)

    def _read_index(self) -> tuple[npt.NDArray[np.uint8], list[str], int]:
        with zipfile.ZipFile(self._path) as archive:
            with open_array(archive, "images") as (_, shape, dtype):
                pass
            split, names = read_array(archive, "split"), read_array(archive, "split_names")
        if dtype != np.uint8 or len(shape) != 4 or shape[2:] != (SIDE, SIDE):
            raise InvalidInput(f"images must be uint8 (classes, drawings, {SIDE}, {SIDE})")
        if not (1 <= shape[0] <= MAX_CLASSES and 2 <= shape[1] <= MAX_DRAWINGS):
            raise InvalidInput(f"it has {shape[0]} classes of {shape[1]} drawings")
        if split.shape != shape[:1] or split.dtype.kind not in "iu" or names.ndim != 1:
            raise InvalidInput("split must give one number for each class")
        if missing := set(SPLITS) - set(names.tolist()):
            raise InvalidInput(f"split_names lacks {', '.join(sorted(missing))}")
        return split, names.tolist(), shape[1]


class ImageData:
    """The official drawings: `images_<split>/<alphabet>/<character>/*.png`, or such a zip."""

    def __init__(self, root: Path) -> None:
        self._root = root
        with _reading(root):
            self._files = {split: self._list(split) for split in SPLITS}
        counts = {len(files) for split in SPLITS for files in self._files[split]}
        if len(counts) != 1 or not 2 <= min(counts) <= MAX_DRAWINGS:
            raise InvalidInput(f"{root}: every character needs the same number of drawings")
        (self.drawings,) = counts

    def class_count(self, split: str) -> int:
        return len(self._files[split])

    def alphabets(self, split: str) -> list[str]:
        with _reading(self._root):
            return [_alphabet_of(files[0]) for files in self._files[split]]

    def classes(self, split: str) -> Iterator[Images]:
        with _reading(self._root), self._archive(split) as archive:
            for files in self._files[split]:
                yield np.stack([_shrunk(archive.read(name)) for name in files])

    def _archive(self, split: str) -> _Archive:
        folder = self._root / f"images_{split}"
        if folder.is_dir():
            return _Folder(folder)
        packed = folder.with_suffix(".zip")
        if packed.is_file():
            return _Zip(packed)
        raise InvalidInput(f"it has neither images_{split} nor images_{split}.zip; {REMEDY}")

    def _list(self, split: str) -> list[list[str]]:
        classes: dict[str, list[str]] = {}
        with self._archive(split) as archive:
            for name in archive.names():
                classes.setdefault(name.rpartition("/")[0], []).append(name)
                if len(classes) > MAX_CLASSES:
                    raise InvalidInput(f"it has more than {MAX_CLASSES} characters")
        if not classes:
            raise InvalidInput(f"images_{split} has no drawings; {REMEDY}")
        return [sorted(classes[key]) for key in sorted(classes)]


def _alphabet_of(name: str) -> str:
    folders = name.split("/")[:-1]
    if len(folders) < 2:
        raise InvalidInput(f"'{name[:80]}' is in no folder <alphabet>/<character>")
    return folders[-2]


class _Archive(Protocol):
    """Named files, in a folder or a zip."""

    def __enter__(self) -> _Archive: ...

    def __exit__(self, *error: object) -> None: ...

    def names(self) -> list[str]: ...

    def read(self, name: str) -> bytes: ...


class _Folder:
    def __init__(self, root: Path) -> None:
        self._root = root

    def __enter__(self) -> _Folder:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def names(self) -> list[str]:
        return [path.relative_to(self._root).as_posix() for path in self._root.glob("*/*/*.png")]

    def read(self, name: str) -> bytes:
        with (self._root / name).open("rb") as file:
            return file.read(_MAX_PNG_BYTES)


class _Zip:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)

    def __enter__(self) -> _Zip:
        return self

    def __exit__(self, *error: object) -> None:
        self._zip.close()

    def names(self) -> list[str]:
        names = [info.filename for info in self._zip.infolist() if not info.is_dir()]
        return [n for n in names if n.endswith(".png") and not n.startswith("__MACOSX")]

    def read(self, name: str) -> bytes:
        with self._zip.open(name) as file:
            return file.read(_MAX_PNG_BYTES)


def _shrunk(png: bytes) -> Images:
    """`(28 * 28,) uint8` of a 105 x 105 drawing: inverted, then the mean over boxes of pixels."""
    image = decode_grey_png(png)
    if image.shape != (_ORIGINAL_SIDE, _ORIGINAL_SIDE):
        raise InvalidInput(f"a drawing must be 105x105 pixels, got {image.shape}")
    ink = 255 - image.astype(np.int64)
    return _box_means(_box_means(ink).T).T.astype(np.uint8).reshape(-1)


def _box_means(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Means along each row over 28 boxes, rounded half up: box by box the same as in the .npz."""
    sums = np.add.reduceat(rows, _BOX_STARTS, axis=1)
    means: npt.NDArray[np.int64] = (2 * sums + _BOX_PIXELS) // (2 * _BOX_PIXELS)
    return means


# A box is 3.75 pixels wide and takes the 3 or 4 pixels whose centres lie in it.
_BOX_STARTS = np.array([int(box * 3.75 + 0.5) for box in range(SIDE)])
_BOX_PIXELS = np.diff(_BOX_STARTS, append=_ORIGINAL_SIDE)

"""Many mostly white square grey images in little memory.

Only the inked pixels are kept: where and how dark. For Omniglot's training characters that is 6 MB
instead of 15 MB as bytes or 60 MB as float32, so that an agent on a Pi stays small; and turning
an image is a matter of its inked pixels only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tinyfleet.learner.protocol import Floats

MAX_SIDE = 256  # positions are 16 bits

_GREY = (np.arange(256) / 255.0).astype(np.float32)


class ImageStore:
    """Images of one size, read by number. Immutable."""

    def __init__(self, groups: Iterable[npt.NDArray[np.uint8]], side: int) -> None:
        """groups: any number of `(images, side * side) uint8`, 0 = white; taken one at a time.

        side: 1 to MAX_SIDE pixels.
        """
        positions, values, counts = bytearray(), bytearray(), bytearray()
        for group in groups:
            image, position = np.nonzero(group)
            positions += position.astype(np.uint16).tobytes()
            values += group[image, position].tobytes()
            counts += np.bincount(image, minlength=len(group)).astype(np.int32).tobytes()
        self._pixels = side * side
        self._positions = np.frombuffer(positions, np.uint16)
        self._values = np.frombuffer(values, np.uint8)
        self._counts = np.frombuffer(counts, np.int32)
        self._starts = np.cumsum(self._counts, dtype=np.int32) - self._counts
        self._turned = _turned_positions(side)

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def nbytes(self) -> int:
        """Memory of the images in bytes."""
        arrays = (self._positions, self._values, self._counts, self._starts)
        return sum(array.nbytes for array in arrays)

    def read(
        self, numbers: npt.NDArray[np.int64], turns: npt.NDArray[np.int64] | None = None
    ) -> Floats:
        """`(len(numbers), side * side) float32` in [0, 1], 1 = full ink; a new array.

        turns: quarter turns counter-clockwise of each image, 0 to 3.
        """
        starts, counts = self._starts[numbers], self._counts[numbers]
        inked = [slice(a, a + n) for a, n in zip(starts.tolist(), counts.tolist(), strict=True)]
        where = np.concatenate([self._positions[part] for part in inked])
        values = np.concatenate([self._values[part] for part in inked])
        if turns is not None:
            where = self._turned[where + np.repeat(turns * self._pixels, counts)]
        where = where + np.repeat(np.arange(len(numbers)) * self._pixels, counts)
        images = np.zeros(len(numbers) * self._pixels, np.float32)
        images[where] = _GREY[values]
        return images.reshape(len(numbers), self._pixels)


def _turned_positions(side: int) -> npt.NDArray[np.int64]:
    """`(4 * side * side,)`: entry `turns * side * side + p` is where pixel p goes."""
    pixels = np.arange(side * side).reshape(side, side)
    return np.concatenate([np.rot90(pixels, -turns).ravel() for turns in range(4)])

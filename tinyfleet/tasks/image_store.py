"""Many mostly white square grey images in little memory.

Only the inked pixels are kept, two bytes each: the distance from the inked pixel before and how
dark. For Omniglot's training characters that is 4 MB instead of 15 MB as bytes or 60 MB as float32,
so that an agent on a Pi stays small; and turning an image is a matter of its inked pixels only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from tinyfleet.learner.protocol import Floats

_GREY = (np.arange(256) / 255.0).astype(np.float32)
_FARTHEST = 255  # a distance is one byte: longer ones are split by entries without ink


class ImageStore:
    """Images of one size, read by number. Immutable.

    An image is a run of entries `(distance, grey)`. The distances of an image add up to exactly
    its number of pixels, so those of many images, added up one after the other, are where the
    pixels lie in an array of all these images; the first pixel is 1 away from the start.
    """

    def __init__(self, groups: Iterable[npt.NDArray[np.uint8]], side: int) -> None:
        """groups: any number of `(images, side * side) uint8`, 0 = white; taken one at a time."""
        distances, greys, counts = bytearray(), bytearray(), bytearray()
        for group in groups:
            kept = _kept_pixels(group)
            image, position = np.nonzero(kept)
            counts += kept.sum(axis=1).astype(np.int32).tobytes()
            flat = np.concatenate([[-1], image * side * side + position])
            distances += np.diff(flat).astype(np.uint8).tobytes()
            greys += group[image, position].tobytes()
        self._pixels = side * side
        self._distances = np.frombuffer(distances, np.uint8)
        self._greys = np.frombuffer(greys, np.uint8)
        self._counts = np.frombuffer(counts, np.int32)
        self._starts = np.cumsum(self._counts, dtype=np.int32) - self._counts
        self._turned = _turned_positions(side)

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def nbytes(self) -> int:
        """Memory of the images in bytes."""
        arrays = (self._distances, self._greys, self._counts, self._starts)
        return sum(array.nbytes for array in arrays)

    def read(
        self, numbers: npt.NDArray[np.int64], turns: npt.NDArray[np.int64] | None = None
    ) -> Floats:
        """`(len(numbers), side * side) float32` in [0, 1], 1 = full ink; a new array.

        turns: quarter turns counter-clockwise of each image, 0 to 3.
        """
        starts, counts = self._starts[numbers], self._counts[numbers]
        entries = [slice(a, a + n) for a, n in zip(starts.tolist(), counts.tolist(), strict=True)]
        distances = np.concatenate([self._distances[part] for part in entries])
        greys = np.concatenate([self._greys[part] for part in entries])
        where = np.cumsum(distances, dtype=np.int64)
        where -= 1
        if turns is not None:
            first = np.arange(len(numbers)) * self._pixels
            where += np.repeat(turns * self._pixels - first, counts)
            where = self._turned[where]
            where += np.repeat(first, counts)
        images = np.zeros(len(numbers) * self._pixels, np.float32)
        images[where] = _GREY[greys]
        return images.reshape(len(numbers), self._pixels)


def _kept_pixels(group: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Which pixels get an entry: the inked ones, the last, and one in every long white stretch."""
    kept = group > 0
    kept[:, -1] = True
    kept[:, _FARTHEST - 1 :: _FARTHEST] = True
    return kept


def _turned_positions(side: int) -> npt.NDArray[np.int64]:
    """`(4 * side * side,)`: entry `turns * side * side + p` is where pixel p goes."""
    pixels = np.arange(side * side).reshape(side, side)
    return np.concatenate([np.rot90(pixels, -turns).ravel() for turns in range(4)])

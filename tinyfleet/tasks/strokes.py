"""A pen stroke as 32 points of equal distance, centred, scaled and on a grid of 256 levels.

Only exactly rounded float64 operations are used (square roots are), so every machine computes the
same numbers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

POINTS = 32  # our choice: half of what a digit's stroke has
STEPS = 64  # our choice: levels to a unit; the larger side of a stroke is 2 units

Points = npt.NDArray[np.float64]
Features = npt.NDArray[np.int8]


def stroke_features(points: Points) -> Features:
    """`(32 * 2,) int8`: x, y of each point in units of 1/64; of `(count, 2)` points, count >= 1.

    The points follow the stroke at equal distances from its beginning to its end, so speed does not
    matter; the middle of its bounding box is (0, 0) and the larger side of the box runs from -1 to
    1, so place and size do not either. A stroke that never moves is all zeros.
    """
    even = _evenly(np.asarray(points, np.float64))
    low, high = even.min(axis=0), even.max(axis=0)
    half = float((high - low).max()) / 2.0
    if half == 0.0:
        return np.zeros(POINTS * 2, np.int8)
    levels = np.rint((even - (low + high) / 2.0) * (STEPS / half))
    features: Features = levels.astype(np.int8)
    return features.reshape(-1)


def _evenly(points: Points) -> Points:
    """`(32, 2)`: points along the broken line, equally far from each other along it."""
    steps = np.diff(points, axis=0)
    lengths = np.sqrt((steps * steps).sum(axis=1))
    so_far = np.concatenate([[0.0], np.cumsum(lengths)])
    wanted = so_far[-1] * (np.arange(POINTS) / (POINTS - 1))
    return np.stack([np.interp(wanted, so_far, points[:, axis]) for axis in (0, 1)], axis=1)

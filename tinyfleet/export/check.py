"""Whether an exported model says what the learner says: nothing is kept that does not."""

from __future__ import annotations

import numpy as np

from tinyfleet.errors import TinyFleetError
from tinyfleet.learner.elementary import exp32
from tinyfleet.learner.protocol import Floats

FLOAT_TOLERANCE = 1e-5  # of each output: absolute, plus relative to the sample's largest one


class Disagrees(TinyFleetError):
    """An exported model says something else than the learner: it is not kept."""


def softmax(logits: Floats) -> Floats:
    """`(count, classes) float32` probabilities of logits, row by row."""
    powers = exp32(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def check_same(said: Floats, expected: Floats, tolerance: float = FLOAT_TOLERANCE) -> float:
    """The largest absolute difference of `(count, outputs) float32` from what is expected.

    Raises Disagrees when one is above `tolerance * (1 + the largest output of its sample)`, or not
    a number. Float32 kernels add in another order than the learner, which is all they may do.
    """
    differences = np.abs(said.astype(np.float64) - expected)
    allowed = tolerance * (1.0 + np.abs(expected.astype(np.float64)).max(axis=1, keepdims=True))
    if not (differences <= allowed).all():
        raise Disagrees(
            f"the exported model differs from the learner by {differences.max():.3g}, more than "
            f"{tolerance:g} absolute and relative: nothing was written"
        )
    return float(differences.max())

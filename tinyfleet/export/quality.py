"""What an int8 model loses against the learner, measured on samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyfleet.export.check import Disagrees
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.spec import ModelSpec

MAX_DROP = 1.5  # points of accuracy
MAX_ERROR = 5.0  # our choice: percent, of a regression


@dataclass(frozen=True)
class Quality:
    """Of an exported model on `samples` samples.

    drop: points of accuracy lost, of a classifier whose labels are known. changed: percent of the
    samples that a classifier answers differently: it cannot lose more points than that. error: root
    mean square of the differences in percent of the outputs' own standard deviation, of a
    regression.
    """

    samples: int
    drop: float | None = None
    changed: float | None = None
    error: float | None = None

    def check(self, max_drop: float, max_error: float) -> None:
        """Raise Disagrees where more is lost than the caller allows."""
        if self.error is not None and not self.error <= max_error:
            raise Disagrees(
                f"int8 is off by {self.error:.2f} % of the outputs' spread, over --max-error "
                f"{max_error:g}: calibrate on more samples; nothing was written"
            )
        if self.drop is not None and not self.drop <= max_drop:
            raise Disagrees(
                f"int8 loses {self.drop:.2f} points of accuracy on {self.samples} samples, over "
                f"--max-drop {max_drop:g}: calibrate on more samples; nothing was written"
            )
        if self.drop is None and self.changed is not None and not self.changed <= max_drop:
            raise Disagrees(
                f"int8 answers {self.changed:.2f} % of {self.samples} samples differently, over "
                f"--max-drop {max_drop:g}: give labelled samples with --test to count what it "
                "loses; nothing was written"
            )


def measure(spec: ModelSpec, said: Floats, expected: Floats, targets: Floats | None) -> Quality:
    """What is lost. said, expected: `(count, outputs) float32`, of the file and of the learner.

    targets: the right answers, where they are known.
    """
    count = len(expected)
    if spec.loss != "softmax_cross_entropy":
        return Quality(count, error=_relative_error(said, expected))
    ours, theirs = said.argmax(axis=1), expected.argmax(axis=1)
    changed = 100.0 * float(np.mean(ours != theirs))
    if targets is None:
        return Quality(count, changed=changed)
    right = targets.argmax(axis=1)
    drop = 100.0 * float(np.mean(theirs == right) - np.mean(ours == right))
    return Quality(count, drop, changed)


def _relative_error(said: Floats, expected: Floats) -> float:
    wide = expected.astype(np.float64)
    error, spread = np.sqrt(np.mean((said - wide) ** 2)), float(np.std(wide))
    return float(100.0 * error / spread) if spread else (0.0 if error == 0.0 else np.inf)

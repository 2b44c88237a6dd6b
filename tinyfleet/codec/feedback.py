"""Error feedback: what an update left out is added to the next change, so that nothing is lost.

Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech 2014, for quantised gradients; here a
residual lasts from round to round, on devices that keep state between them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import Parameters


@dataclass(frozen=True)
class ErrorFeedback:
    """What was not sent so far: `(n,) float32`, kept by an agent from update to update.

    An agent encodes `wanted(change)`, decodes what it encoded, and keeps `after(wanted, sent)`.
    What an update that was refused had sent, it adds again: `with_refused(sent)`.
    """

    residual: Parameters

    @classmethod
    def empty(cls, count: int) -> ErrorFeedback:
        """Nothing was left out yet."""
        return cls(np.zeros(count, np.float32))

    def wanted(self, change: Parameters) -> Parameters:
        """The `(n,) float32` change and what earlier ones left out, rounded to float32.

        Raises InvalidInput for another shape or type, or when a sum is not finite.
        """
        self._check(change)
        with np.errstate(over="ignore"):
            wanted = change + self.residual
        if not np.isfinite(wanted).all():
            raise InvalidInput("an update and what was left out must add up to finite numbers")
        return wanted

    def after(self, wanted: Parameters, sent: Parameters) -> ErrorFeedback:
        """The state once `sent`, as the server decodes it, went in place of `wanted`.

        Exact for entries that were left out, and for float32 and float16 values that were not
        clamped or subnormal; in int8 rounded to float32.
        """
        self._check(wanted)
        self._check(sent)
        return ErrorFeedback(wanted - sent)

    def with_refused(self, sent: Parameters) -> ErrorFeedback:
        """The state when `sent`, which `after` took as gone, did not get there."""
        self._check(sent)
        return ErrorFeedback(self.residual + sent)

    def _check(self, vector: Parameters) -> None:
        if vector.dtype != np.float32 or vector.shape != self.residual.shape:
            raise InvalidInput(
                f"the residual is of {len(self.residual)} float32, "
                f"got {vector.dtype} {vector.shape}"
            )

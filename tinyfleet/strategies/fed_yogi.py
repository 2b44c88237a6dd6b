"""FedYogi: FedAdam whose rates change slowly, by a step of the square's own size.

Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295, algorithm 2; the server's rule
is in `adaptive`, with

    v <- v - (1 - decay) * d * d * sign(v - d * d)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tinyfleet.strategies.adaptive import Adaptive, Doubles


@dataclass(frozen=True)
class FedYogi(Adaptive):
    """The strategy `fed_yogi`; see the module for the algorithm."""

    name = "fed_yogi"

    def second(self, v: Doubles, squares: Doubles) -> Doubles:
        return v - (1.0 - self.decay) * squares * np.sign(v - squares)

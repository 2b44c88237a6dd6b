"""FedAdam: the server takes Adam's steps, the devices train as in FedAvg.

Reddi et al., "Adaptive Federated Optimization", arXiv 2003.00295, algorithm 2; the server's rule
is in `adaptive`, with

    v <- decay * v + (1 - decay) * d * d
"""

from __future__ import annotations

from dataclasses import dataclass

from tinyfleet.strategies.adaptive import Adaptive, Doubles


@dataclass(frozen=True)
class FedAdam(Adaptive):
    """The strategy `fed_adam`; see the module for the algorithm."""

    name = "fed_adam"

    def second(self, v: Doubles, squares: Doubles) -> Doubles:
        return self.decay * v + (1.0 - self.decay) * squares

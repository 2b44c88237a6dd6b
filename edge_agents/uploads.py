"""How what a slot of a round changed becomes the bytes that are sent."""

from __future__ import annotations

from dataclasses import dataclass

from tinyfleet.exchange import Exchange, Payload
from tinyfleet.model.spec import Parameters
from tinyfleet.randomness import RandomStream


@dataclass(frozen=True, slots=True)
class SlotUpload:
    """What one slot of a round sends, whoever encodes it; see `edge_agents.trainers.protocol`."""

    exchange: Exchange
    run_seed: int
    round: int
    slot: int

    def encode(self, delta: Parameters) -> Payload:
        """The update of `(parameter_count,) float32`, encoded here; may be a view of it."""
        return self.exchange.encode(delta, self.run_seed, self.round, self.slot)

    def noise(self) -> RandomStream | None:
        """The slot's own draws from their beginning, for a board that rounds by itself."""
        return self.exchange.noise(self.run_seed, self.round, self.slot)

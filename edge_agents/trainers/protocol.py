"""What every trainer does, whatever it trains on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from edge_agents.uploads import SlotUpload
from tinyfleet.exchange import Payload
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.plan import TrainingPlan


class NotNow(Exception):
    """An assignment cannot be done this time, the run can be served; the message says why."""


class Draw(Protocol):
    """What one slot of a round learns from. run_id, round: which round of which run it is."""

    @property
    def run_id(self) -> str: ...

    @property
    def round(self) -> int: ...

    def __call__(self, count: int) -> Samples:
        """Give that many samples, the next of the device's stream; may block."""
        ...

    def seeds(self, count: int) -> list[int]:
        """`count` numbers of 32 bits, the slot's own: for a device that draws samples by itself."""
        ...


Learned = Callable[[Parameters, float, Draw], None]
"""learned(parameters, loss, draw) hears of what was trained, in the thread that did.

parameters: as they are now, its own to keep. loss: mean of what was trained on, finite. draw: the
slot.
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training gave.

    update: trained minus start as `SlotUpload.encode` writes it, whoever did; empty when it
    diverged. loss: mean training loss, finite; 0 when it diverged. seconds: time spent on training,
    drawing samples and encoding excluded. diverged: as `tinyfleet.strategies.base.delta_of`
    decides.
    """

    update: Payload
    loss: float
    seconds: float
    diverged: bool


class Trainer(Protocol):
    """Trains one model. Asynchronous, so that a device that computes by itself is awaited."""

    @property
    def can_be_stopped(self) -> bool:
        """Whether a cancelled `train` really ends, and leaves the target to the next one."""
        ...

    async def train(
        self, start: Parameters, plan: TrainingPlan, draw: Draw, upload: SlotUpload
    ) -> Outcome:
        """Run `plan` from `start`, which stays, on `draw(plan.samples)`; encode the change.

        Raises InvalidInput when plan or samples do not fit the model, DoesNotFit when the target
        lacks memory, NotNow when the target is out of reach.
        """
        ...


def diverged(seconds: float) -> Outcome:
    """The outcome of a training that diverged."""
    return Outcome(b"", 0.0, seconds, diverged=True)

"""The server's side of a round: the model, and what a rule remembers from round to round.

Most rules need nothing but the model. One that does (momentum, second moments) names how many
vectors it keeps; they begin at zero and go wherever the model goes: snapshots, checkpoints, kept
jobs. `next_state` does the right thing for either kind, in the simulator as in the aggregator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.model.spec import Parameters
from tinyfleet.strategies.base import (
    Memory,
    Remembering,
    Strategy,
    Update,
    memory_vectors,
)


@dataclass(frozen=True, slots=True, eq=False)
class ServerState:
    """A version of the model, `(parameter_count,) float32`, and what the rule remembers with it.

    memory: as many vectors like the model as the strategy keeps.
    """

    parameters: Parameters
    memory: Memory = ()


def initial_state(strategy: Strategy, parameters: Parameters) -> ServerState:
    """Version 0: the memory is zero."""
    count = memory_vectors(strategy)
    return ServerState(parameters, tuple(np.zeros_like(parameters) for _ in range(count)))


def state_at(
    strategy: Strategy, parameters: Parameters, version: int, memory: Memory
) -> ServerState:
    """The state to go on from; raises InvalidInput unless its memory is the strategy's.

    Only version 0 may come without one.
    """
    if version == 0 and not memory:
        return initial_state(strategy, parameters)
    count = memory_vectors(strategy)
    fits = all(v.dtype == np.float32 and v.shape == parameters.shape for v in memory)
    if len(memory) != count or not fits:
        raise InvalidInput(
            f"{strategy.name} goes on with {count} memory vectors of its server, not with "
            f"{len(memory)}: begin the run anew"
        )
    return ServerState(parameters, memory)


def next_state(
    strategy: Strategy, state: ServerState, updates: Sequence[Update], round: int
) -> ServerState:
    """The strategy's rule on the updates of `round`, in the order of their slots."""
    if memory_vectors(strategy):
        rule = cast("Remembering", strategy)
        return ServerState(*rule.step(state.parameters, state.memory, updates, round))
    return ServerState(strategy.apply(state.parameters, updates, round))

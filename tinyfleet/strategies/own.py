"""Strategies that an operator writes: Python files named by the variable TINYFLEET_STRATEGIES.

Every process that makes the strategy needs the same variable: the command, the coordinator, the
aggregator and the agents. docs/guides/new-strategy.md shows one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

import numpy as np

from tinyfleet.errors import InvalidInput
from tinyfleet.own_code import OwnCode, told
from tinyfleet.strategies.base import (
    MAX_AGENTS_PER_ROUND,
    MAX_MEMORY_VECTORS,
    MAX_SPEED_SPREAD,
    Strategy,
    Update,
    asynchronous,
    build,
    options_of,
)
from tinyfleet.strategies.server import initial_state, next_state

VARIABLE = "TINYFLEET_STRATEGIES"


def own_strategies() -> Mapping[str, type]:
    """The strategies of the files that TINYFLEET_STRATEGIES names, by name; raises InvalidInput."""
    return _OWN.found()


def make_own(
    strategy: type, rounds: int, options: Mapping[str, Any], layers: tuple[str, ...]
) -> Strategy:
    """The strategy, whose plan and rule were tried once; raises InvalidInput for what went wrong.

    So a run is refused where it begins, rather than stop in a service where its rounds are folded.
    """
    try:
        made = cast("Strategy", build(strategy, rounds, options, layers))
        made.plan(0)
        _try_rule(made)
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001 - the file is somebody's own: its faults get one line
        name = strategy.name  # type: ignore[attr-defined]
        raise InvalidInput(f"strategy '{name}' cannot be made: {told(error)}") from None
    return made


def _try_rule(strategy: Strategy) -> None:
    """Let the rule make the next version of three parameters, with one update a slot."""
    model, delta = np.zeros(3, np.float32), np.full(3, 0.5, np.float32)
    updates = [Update(slot, delta, 1) for slot in range(strategy.agents_per_round)]
    if not 1 <= len(updates) <= MAX_AGENTS_PER_ROUND:
        raise InvalidInput(f"agents_per_round must be 1 to {MAX_AGENTS_PER_ROUND}")
    _check_overlap(strategy)
    before = initial_state(strategy, model)
    after = next_state(strategy, before, updates, 0)
    made: list[Any] = [after.parameters, *after.memory]
    for vector in made:
        if not isinstance(vector, np.ndarray) or vector.dtype != np.float32 or vector.shape != (3,):
            raise InvalidInput(
                f"strategy '{strategy.name}' must make float32 vectors like the model it was given"
            )
    if len(after.memory) != len(before.memory):
        raise InvalidInput(
            f"strategy '{strategy.name}' has {len(before.memory)} memory_vectors, but its step "
            f"makes {len(after.memory)}"
        )


def _check_overlap(strategy: Strategy) -> None:
    """Refuse a strategy that has only a part of what lets rounds overlap, or too much of it."""
    names = ("concurrency", "max_staleness", "speed_spread")
    said = [name for name in names if hasattr(strategy, name)]
    overlapping = asynchronous(strategy)
    if overlapping is None:
        if said:
            raise InvalidInput(
                f"strategy '{strategy.name}' has {said[0]}: one whose rounds overlap has "
                f"{', '.join(names)}"
            )
    elif not 1 <= overlapping.concurrency <= MAX_AGENTS_PER_ROUND:
        raise InvalidInput(f"concurrency must be 1 to {MAX_AGENTS_PER_ROUND}")
    elif overlapping.max_staleness < 0 or not 0 <= overlapping.speed_spread <= MAX_SPEED_SPREAD:
        raise InvalidInput(f"max_staleness is 0 or more, speed_spread 0 to {MAX_SPEED_SPREAD:g}")


def _objection(made: Any) -> str:
    if not (isinstance(made, type) and is_dataclass(made)):
        return "must say STRATEGY = its class, a frozen dataclass"
    if "rounds" not in {entry.name for entry in fields(made)}:
        return "must have rounds: int = rounds_option()"
    for name, entry in options_of(made).items():
        if not {"help", "low", "high"} <= entry.metadata.keys():
            return f"must give {name} as an option(default, help, low, high)"
    vectors = getattr(made, "memory_vectors", 0)
    if not (isinstance(vectors, int) and 0 <= vectors <= MAX_MEMORY_VECTORS):
        return f"must keep 0 to {MAX_MEMORY_VECTORS} memory_vectors"
    needed = ("agents_per_round", "plan", "step" if vectors else "apply")
    missing = [name for name in needed if not hasattr(made, name)]
    return f"has a strategy without {' and '.join(missing)}" if missing else ""


_OWN = OwnCode(VARIABLE, "strategy", "STRATEGY", _objection)

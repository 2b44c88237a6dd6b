"""Strategies that an operator writes: Python files named by the variable TINYFLEET_STRATEGIES.

Every process that makes the strategy needs the same variable: the command, the coordinator, the
aggregator and the agents. docs/guides/new-strategy.md shows one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, cast

from tinyfleet.errors import InvalidInput
from tinyfleet.own_code import OwnCode, told
from tinyfleet.strategies.base import MAX_MEMORY_VECTORS, Strategy, build, options_of

VARIABLE = "TINYFLEET_STRATEGIES"


def own_strategies() -> Mapping[str, type]:
    """The strategies of the files that TINYFLEET_STRATEGIES names, by name; raises InvalidInput."""
    return _OWN.found()


def make_own(
    strategy: type, rounds: int, options: Mapping[str, Any], layers: tuple[str, ...]
) -> Strategy:
    """The strategy, whose plan was made once; raises InvalidInput for any fault of its code."""
    try:
        made = cast("Strategy", build(strategy, rounds, options, layers))
        made.plan(0)
        if made.agents_per_round < 1:
            raise InvalidInput(f"strategy '{made.name}' has no agents_per_round")
    except InvalidInput:
        raise
    except Exception as error:  # noqa: BLE001 - the file is somebody's own: its faults get one line
        name = strategy.name  # type: ignore[attr-defined]
        raise InvalidInput(f"strategy '{name}' cannot be made: {told(error)}") from None
    return made


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

"""The federated algorithms, by name. A new one is a file beside these and a line here.

An operator's own is a file that TINYFLEET_STRATEGIES names, and no line anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tinyfleet.errors import InvalidInput, unknown_name
from tinyfleet.strategies.base import Strategy, Update, build
from tinyfleet.strategies.fed_adam import FedAdam
from tinyfleet.strategies.fed_avg import FedAvg
from tinyfleet.strategies.fed_avg_m import FedAvgM
from tinyfleet.strategies.fed_buff import FedBuff
from tinyfleet.strategies.fed_prox import FedProx
from tinyfleet.strategies.fed_sgd import FedSGD
from tinyfleet.strategies.fed_tiny_ol import FedTinyOL
from tinyfleet.strategies.fed_yogi import FedYogi
from tinyfleet.strategies.own import make_own, own_strategies
from tinyfleet.strategies.per_fed_avg import PerFedAvg
from tinyfleet.strategies.plan import Download, Phase, TrainingPlan, Upload
from tinyfleet.strategies.reptile import Reptile
from tinyfleet.strategies.tiny_meta_fed import TinyMetaFed
from tinyfleet.strategies.tiny_reptile import TinyReptile

STRATEGIES: dict[str, type] = {
    strategy.name: strategy
    for strategy in (
        *(TinyReptile, TinyMetaFed, FedTinyOL, Reptile, PerFedAvg),
        *(FedAvg, FedSGD, FedProx, FedAvgM, FedAdam, FedYogi, FedBuff),
    )
}


def make_strategy(
    name: str, rounds: int, options: Mapping[str, Any], layers: tuple[str, ...] = ()
) -> Strategy:
    """The strategy `name` for a run of `rounds` rounds; raises InvalidInput on bad options.

    layers: names of the model's layers with parameters, first to last.
    """
    strategy = find_strategy(name)
    if name not in STRATEGIES:
        return make_own(strategy, rounds, options, layers)
    return cast("Strategy", build(strategy, rounds, options, layers))


def find_strategy(name: str) -> type:
    """The class of the strategy `name`, one of TinyFleet or the operator's own.

    Raises InvalidInput for unknown names and for files of no use.
    """
    if name in STRATEGIES:
        return STRATEGIES[name]
    names = strategy_names()
    if name not in names:
        raise unknown_name("strategy", name, names)
    return own_strategies()[name]


def strategy_names() -> list[str]:
    """The strategies of TinyFleet and the operator's own; raises InvalidInput for bad files."""
    own = own_strategies()
    for name in own:
        if name in STRATEGIES:
            raise InvalidInput(f"TinyFleet has a strategy '{name}': give yours another name")
    return [*STRATEGIES, *own]


__all__ = [
    "STRATEGIES",
    "Download",
    "Phase",
    "Strategy",
    "TrainingPlan",
    "Update",
    "Upload",
    "find_strategy",
    "make_strategy",
    "strategy_names",
]

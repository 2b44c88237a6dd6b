"""The federated algorithms, by name. A new one is a file beside these and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from tinyfleet.errors import unknown_name
from tinyfleet.strategies.base import Strategy, Update, build
from tinyfleet.strategies.fed_adam import FedAdam
from tinyfleet.strategies.fed_avg import FedAvg
from tinyfleet.strategies.fed_avg_m import FedAvgM
from tinyfleet.strategies.fed_sgd import FedSGD
from tinyfleet.strategies.fed_yogi import FedYogi
from tinyfleet.strategies.per_fed_avg import PerFedAvg
from tinyfleet.strategies.plan import Download, Phase, TrainingPlan, Upload
from tinyfleet.strategies.reptile import Reptile
from tinyfleet.strategies.tiny_meta_fed import TinyMetaFed
from tinyfleet.strategies.tiny_ol import TinyOL
from tinyfleet.strategies.tiny_reptile import TinyReptile

STRATEGIES: dict[str, type] = {
    strategy.name: strategy
    for strategy in (
        *(TinyReptile, TinyMetaFed, TinyOL, Reptile, PerFedAvg),
        *(FedAvg, FedSGD, FedAvgM, FedAdam, FedYogi),
    )
}


def make_strategy(
    name: str, rounds: int, options: Mapping[str, Any], layers: tuple[str, ...] = ()
) -> Strategy:
    """The strategy `name` for a run of `rounds` rounds; raises InvalidInput on bad options.

    layers: names of the model's layers with parameters, first to last.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return cast("Strategy", build(STRATEGIES[name], rounds, options, layers))


__all__ = [
    "STRATEGIES",
    "Download",
    "Phase",
    "Strategy",
    "TrainingPlan",
    "Update",
    "Upload",
    "make_strategy",
]

"""FedBuff against a round that waits for all, where one device is slow: versions an hour, and loss.

Three devices need a second for a slot, the slow one ten. Both ways have the same plan for a device
(online SGD on the sine task) and make a version of four updates. The way that waits for all is
TinyReptile with four devices a round (`tiny_meta_fed` with nothing local and everything sent); a
round of it, as of Reptile, takes as long as the slowest device. Time is simulated, not measured.
The loss is that of 1,000 unseen problems after adaptation, at the end of the same simulated hours,
over which the server's step of either falls to zero.

    python benchmarks/bench_buffered.py [--json] [--hours H] [--seeds N]
"""

from __future__ import annotations

import argparse
import json
import statistics
from typing import Any

import numpy as np
from machine import describe_machine

from tinyfleet.evaluation import EvaluationSettings, evaluate
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.model import Parameters
from tinyfleet.run import RunSpec, make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.simulation.arrivals import Devices
from tinyfleet.strategies import Update
from tinyfleet.strategies.base import delta_of
from tinyfleet.tasks import make_task

SPEEDS = (1.0, 1.0, 1.0, 0.1)  # slots a second
BUFFER = len(SPEEDS)
MAX_STALENESS = 20
MODEL = "mlp_64"
TASK = make_task("sine", {})
PLAN = {**TASK.recommended["tiny_reptile"], "schedule": "linear"}
Json = dict[str, Any]


def timeline() -> Devices[Any]:
    """The four devices, with slots for as long as anybody wants."""
    return Devices(SPEEDS, 10**12, BUFFER, MAX_STALENESS)


def versions_in(seconds: float) -> int:
    """Versions that FedBuff has made by then."""
    devices, version = timeline(), 0
    while True:
        devices.next_buffer(version, None)
        if devices.time > seconds:
            return version
        version += 1


def overlapping(seed: int, seconds: float) -> tuple[RunSpec, Parameters]:
    """FedBuff's model after the time; the simulator's own speeds are drawn, these are given."""
    options = {**PLAN, "buffer": BUFFER, "concurrency": BUFFER, "max_staleness": MAX_STALENESS}
    run = make_run(TASK, "fed_buff", versions_in(seconds), seed, MODEL, options)
    strategy, learner, devices = run.make_strategy(), make_learner(run.model), timeline()
    model = run.initial_parameters()
    for version in range(run.rounds):
        updates = []
        for one in devices.next_buffer(version, model):
            number, slot = divmod(one.slot, BUFFER)
            plan, trained = strategy.plan(number), one.start.copy()
            samples = training_samples(TASK, seed, number, slot, plan.samples)
            finite = run_plan(learner, trained, samples, plan).finite
            delta = delta_of(trained, one.start, finite)
            delta = np.zeros_like(model) if delta is None else delta
            updates.append(Update(slot, delta, plan.samples, version - one.base_version))
        model = strategy.apply(model, updates, version)
    return run, model


def waiting(seed: int, seconds: float) -> tuple[RunSpec, Parameters]:
    """The model of rounds that wait for all four, after the time."""
    rounds = int(seconds * min(SPEEDS))
    options = {**PLAN, "local_layers": 0, "fraction": 1.0, "agents_per_round": BUFFER}
    run = make_run(TASK, "tiny_meta_fed", rounds, seed, MODEL, options)
    return run, simulate(run, TASK, make_learner(run.model)).parameters


def measure(train: Any, seeds: int, hours: float) -> Json:
    losses, rounds = [], 0
    for seed in range(1, seeds + 1):
        run, model = train(seed, 3600 * hours)
        settings = EvaluationSettings.for_task(TASK, curve_tasks=0)
        losses.append(evaluate(make_learner(run.model), model, TASK, settings).after.loss)
        rounds = run.rounds
    return {"versions_per_hour": rounds / hours, "losses": losses}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one object instead of a table")
    parser.add_argument("--hours", type=float, default=4, help="simulated [default: 4]")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each [default: 3]")
    options = parser.parse_args()
    ways = {"waits for all": waiting, "fed_buff": overlapping}
    results = {name: measure(way, options.seeds, options.hours) for name, way in ways.items()}
    if options.json:
        about = {"machine": describe_machine(), "speeds": SPEEDS, "hours": options.hours}
        print(json.dumps(about | {"results": results}))
        return
    print(f"{'':14} {'versions/hour':>14} {'loss after adaptation':>22}   (simulated)")
    for name, result in results.items():
        losses = result["losses"]
        spread = f"{statistics.mean(losses):.3f} ({min(losses):.3f} to {max(losses):.3f})"
        print(f"{name:14} {result['versions_per_hour']:>14,.0f} {spread:>22}")
    print(f"\n{options.hours:g} hours, seeds 1 to {options.seeds}; {describe_machine()}")


if __name__ == "__main__":
    main()

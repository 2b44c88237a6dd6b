"""How fast one core learns, one sample at a time: the C learner against NumPy and PyTorch.

One step is forward, loss, backward and SGD update of one sample. Before anything is timed, all
contenders train on the same samples and must reach the same parameters within TOLERANCE.

    python benchmarks/bench_learner.py [--json] [--model mlp_32 ...] [--repeats N]

native     the C learner, strict arithmetic
numpy      what one writes by hand for speed: float32, BLAS, im2col, no order of operations
torch      PyTorch on the CPU, one thread, the fastest way found; left out, and said so, where it is
           not installed
reference  our NumPy learner with the native one's bits; the fallback, not a rival
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from machine import describe_machine
from plain_numpy import PlainNumpy

from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.model import ModelSpec, Parameters, builtin_model, initial_parameters
from tinyfleet.strategies.plan import Phase

SEED = 1
RATE = 0.005
MODELS = {
    "mlp_32": ((1, 1, 1), 1, "mean_squared_error"),
    "cnn_s": ((28, 28, 1), 5, "softmax_cross_entropy"),
    "cnn_m": ((28, 28, 1), 5, "softmax_cross_entropy"),
}
AGREEMENT_STEPS = 20
# Each contender rounds each step differently, by about 1e-7 of a parameter near 1; over 20 steps
# that adds up to a few 1e-6. A wrong gradient is off by RATE * gradient, about 1e-3 a step.
TOLERANCE = 2e-5
SECONDS = 0.25  # of one repeat

Train = Callable[[Parameters, Samples], Parameters]


@dataclass(frozen=True)
class Timing:
    """Microseconds a sample, over the repeats."""

    median: float
    fastest: float
    slowest: float


def draw(spec: ModelSpec, count: int) -> Samples:
    """Sine points, or images with a seventh of ink, like a drawn character."""
    random = np.random.default_rng(SEED)
    if spec.loss == "mean_squared_error":
        x = random.uniform(-5.0, 5.0, (count, spec.inputs)).astype(np.float32)
        return Samples(x, np.sin(x))
    ink = (random.random((count, spec.inputs)) < 1 / 7).astype(np.float32)
    classes = random.integers(0, spec.outputs, count)
    return Samples(ink, np.eye(spec.outputs, dtype=np.float32)[classes])


def learner_contender(learner: NativeLearner | ReferenceLearner) -> Train:
    """One of our own learners."""

    def train(parameters: Parameters, samples: Samples) -> Parameters:
        trained = parameters.copy()
        learner.train(trained, samples, Phase(len(samples), RATE))
        return trained

    return train


def contenders(spec: ModelSpec) -> dict[str, Train]:
    """Everyone that can run here, the C learner first."""
    found: dict[str, Train] = {
        "native": learner_contender(NativeLearner(spec)),
        "numpy": PlainNumpy(spec, RATE).train,
    }
    try:
        from plain_torch import PlainTorch

        found["torch"] = PlainTorch(spec, RATE).train
    except ModuleNotFoundError as error:
        print(f"torch is left out: {error}", file=sys.stderr)
    return found | {"reference": learner_contender(ReferenceLearner(spec))}


def check_agreement(spec: ModelSpec, trains: dict[str, Train]) -> dict[str, float]:
    """The largest difference of any parameter from the native learner's; a large one ends it."""
    parameters, samples = initial_parameters(spec, SEED), draw(spec, AGREEMENT_STEPS)
    trained = {name: train(parameters, samples) for name, train in trains.items()}
    assert np.abs(trained["native"] - parameters).max() > 100 * TOLERANCE, "nothing was learned"
    off = {name: float(np.abs(t - trained["native"]).max()) for name, t in trained.items()}
    for name, difference in off.items():
        if not difference <= TOLERANCE:
            raise SystemExit(f"{spec.name}: {name} is off by {difference:.1e}: no timing")
    return off


def time_all(spec: ModelSpec, trains: dict[str, Train], repeats: int) -> dict[str, Timing]:
    """Interleaved repeats, so that a busy machine is busy for everyone."""
    parameters = initial_parameters(spec, SEED)
    loads = {name: _load(spec, train, parameters) for name, train in trains.items()}
    times: dict[str, list[float]] = {name: [] for name in trains}
    for _ in range(repeats):
        for name, train in trains.items():
            times[name].append(_seconds(train, parameters, loads[name]) / len(loads[name]) * 1e6)
    return {
        name: Timing(statistics.median(values), min(values), max(values))
        for name, values in times.items()
    }


def _load(spec: ModelSpec, train: Train, parameters: Parameters) -> Samples:
    """As many samples as take about SECONDS."""
    probe = draw(spec, 10)
    train(parameters, probe)
    one = _seconds(train, parameters, probe) / len(probe)
    return draw(spec, int(min(max(SECONDS / one, 10), 20_000)))


def _seconds(train: Train, parameters: Parameters, samples: Samples) -> float:
    start = time.perf_counter()
    train(parameters, samples)
    return time.perf_counter() - start


def measure(name: str, repeats: int) -> dict[str, Any]:
    """Everything about one model."""
    spec = builtin_model(name, *MODELS[name])
    trains = contenders(spec)
    off = check_agreement(spec, trains)
    timings = time_all(spec, trains, repeats)
    native = timings["native"].median
    return {
        "model": name,
        "parameters": spec.parameter_count,
        "contenders": {
            contender: {
                "us_per_sample": round(timing.median, 3),
                "fastest": round(timing.fastest, 3),
                "slowest": round(timing.slowest, 3),
                "native_is_faster": round(timing.median / native, 1),
                "largest_difference": off[contender],
            }
            for contender, timing in timings.items()
        },
    }


def show(result: dict[str, Any]) -> None:
    """One model's table."""
    print(f"\n{result['model']}, {result['parameters']:,} parameters, us a sample")
    print(f"{'':10} {'median':>9} {'fastest':>9} {'slowest':>9} {'ratio':>7}  largest difference")
    for name, row in result["contenders"].items():
        print(
            f"{name:10} {row['us_per_sample']:9.2f} {row['fastest']:9.2f} {row['slowest']:9.2f} "
            f"{row['native_is_faster']:6.1f}x  {row['largest_difference']:.1e}"
        )


def use_one_thread() -> None:
    """Start anew with BLAS and OpenMP on one thread: they read that when they are loaded."""
    if os.environ.get("OPENBLAS_NUM_THREADS") != "1":
        os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        os.execv(sys.executable, [sys.executable, *sys.argv])  # noqa: S606 - ourselves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument("--model", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--repeats", type=int, default=9, help="timings of each [default: 9]")
    options = parser.parse_args()
    use_one_thread()
    results = [measure(name, options.repeats) for name in options.model]
    if options.json:
        print(json.dumps({"machine": describe_machine(), "seed": SEED, "models": results}))
        return
    for result in results:
        show(result)
    print(f"\nseed {SEED}, median of {options.repeats}; {describe_machine()}")


if __name__ == "__main__":
    main()

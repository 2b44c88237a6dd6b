"""What an update costs on the wire and on the clock, by share, precision and form of positions.

The updates are what one round of TinyReptile's training changes in a model: 50 samples like drawn
characters, one at a time, from the seeded initialization. Before anything is timed, each update is
decoded and must hold the entries that a stable sort chooses, as nearly as the precision allows.

    python benchmarks/bench_codec.py [--json] [--model cnn_s cnn_m] [--updates N] [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from bench_learner import SEED, draw
from machine import describe_machine

from tinyfleet.codec.positions import Positions, positions_bytes
from tinyfleet.codec.selected import decode_update, encode_selected
from tinyfleet.codec.selection import entries_of
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.learner.native import NativeLearner
from tinyfleet.model import ModelSpec, Parameters, builtin_model, initial_parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.strategies.plan import Phase

FRACTIONS = (0.05, 0.1, 0.25, 1.0)
SAMPLES = 50
RATE = 0.01
Json = dict[str, Any]


def real_changes(spec: ModelSpec, updates: int) -> list[Parameters]:
    """What training changed, on other samples for each update."""
    start, samples = initial_parameters(spec, SEED), draw(spec, SAMPLES * updates)
    learner, changes = NativeLearner(spec), []
    for first in range(0, SAMPLES * updates, SAMPLES):
        trained = start.copy()
        learner.train(trained, samples[first : first + SAMPLES], Phase(SAMPLES, RATE))
        changes.append(trained - start)
    return changes


def encode(change: Parameters, fraction: float, precision: str) -> bytes:
    return encode_selected(change, fraction, precision, RandomStream(SEED, Purpose.UPLOAD, 0, 0))


def check(change: Parameters, fraction: float, precision: str) -> None:
    """The update holds what a stable sort chooses, within a step of the precision."""
    kept = np.argsort(-np.abs(change), kind="stable")[: entries_of(fraction, len(change))]
    wanted = np.zeros_like(change)
    wanted[kept] = change[kept]
    off = np.abs(decode_update(encode(change, fraction, precision), len(change)) - wanted).max()
    largest = np.abs(change).max()
    allowed = {
        "float32": 0.0,
        "float16": largest / 2048 + 2.0**-25,
        "int8": 1.00001 * largest / 127,
    }
    if not off <= allowed[precision]:
        raise SystemExit(f"{fraction:.0%} {precision} is off by {off}: no timing")


def microseconds(work: Callable[[], object], repeats: int) -> float:
    """The median time of one call, over the repeats."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return round(statistics.median(times) * 1e6, 1)


def measure(changes: list[Parameters], fraction: float, precision: str, repeats: int) -> Json:
    """One row: means of bytes over the updates, medians of time over repeats of the first."""
    for change in changes:
        check(change, fraction, precision)
    first, count = changes[0], len(changes[0])
    encoded = [encode(change, fraction, precision) for change in changes]
    forms = Counter(Positions(data[0]).name.lower() for data in encoded)
    size = statistics.mean(len(data) for data in encoded)
    return {
        "fraction": fraction,
        "precision": precision,
        "bytes": round(size),
        "of_dense": round(size / (4 * count), 4),
        "positions": dict(forms),
        "other_positions": _other_positions(encoded[0], count),
        "encode_us": microseconds(lambda: encode(first, fraction, precision), repeats),
        "decode_us": microseconds(lambda: decode_update(encoded[0], count), repeats),
    }


def _other_positions(data: bytes, count: int) -> dict[str, int]:
    """What each form of the positions of the entries that are not zero would take."""
    sizes = positions_bytes(np.flatnonzero(decode_update(data, count)), count)
    return {positions.name.lower(): size for positions, size in sizes.items()}


def show(name: str, count: int, rows: list[Json]) -> None:
    """One model's table."""
    print(f"\n{name}, {count:,} parameters, dense {4 * count:,} bytes")
    print(
        "   P  precision    bytes  of dense  positions    bitmap   gaps indices encode us decode us"
    )
    for row in rows:
        forms = "/".join(row["positions"])
        other = row["other_positions"]
        print(
            f"{row['fraction']:4.0%}  {row['precision']:9} {row['bytes']:8,} "
            f"{row['of_dense']:9.3f}  {forms:12} "
            f"{other['bitmap']:6,} {other['gaps']:6,} {other['indices']:7,} "
            f"{row['encode_us']:9.0f} {row['decode_us']:9.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument(
        "--model", nargs="+", choices=["cnn_s", "cnn_m"], default=["cnn_s", "cnn_m"]
    )
    parser.add_argument("--updates", type=int, default=10, help="updates of each [default: 10]")
    parser.add_argument("--repeats", type=int, default=101, help="timings of each [default: 101]")
    options = parser.parse_args()
    results = {}
    for name in options.model:
        changes = real_changes(
            builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy"), options.updates
        )
        results[name] = [
            measure(changes, fraction, precision, options.repeats)
            for fraction in FRACTIONS
            for precision in PRECISIONS
        ]
        if not options.json:
            show(name, len(changes[0]), results[name])
    if options.json:
        print(json.dumps({"machine": describe_machine(), "seed": SEED, "models": results}))
        return
    print(
        f"\nseed {SEED}, {options.updates} updates, {options.repeats} timings; {describe_machine()}"
    )


if __name__ == "__main__":
    main()

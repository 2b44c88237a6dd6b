"""Whether an extractor gives the same bits on two machines.

    python benchmarks/extractor_bits.py body.tflite body_int8.tflite --out here.npz
    python benchmarks/extractor_bits.py body.tflite body_int8.tflite --against here.npz  # there

The inputs are multiples of 1/32 in [-4, 4), drawn from a seed, as keywords' are. Results of
2026-12-01 are in docs/results.md.
"""

from __future__ import annotations

import argparse
import hashlib
import platform
from pathlib import Path

import numpy as np

from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph
from tinyfleet.randomness import Purpose, RandomStream

SEED, SAMPLES = 1, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    flags = parser.parse_args()
    made = {path.name: features(path) for path in flags.files}
    other = np.load(flags.against) if flags.against else {}
    for name, found in made.items():
        digest = hashlib.sha256(found.tobytes()).hexdigest()[:16]
        print(f"{platform.machine()} {name}: {found.shape} sha256 {digest}", end="")
        print(f", {difference(found, other[name])}" if name in other else "")
    if flags.out:
        np.savez(flags.out, **made)


def features(path: Path) -> Floats:
    """Of SAMPLES inputs that depend on the seed and the file's input size only."""
    graph = Graph(load_tflite(path))
    stream = RandomStream(SEED, Purpose.EVALUATION_TASK)
    steps = stream.integers(SAMPLES * graph.input.values, 256) - 128
    return graph((steps / 32).astype(np.float32).reshape(SAMPLES, -1))


def difference(found: Floats, other: Floats) -> str:
    if np.array_equal(found, other):
        return "the same bits"
    share = np.mean(found != other)
    largest = np.abs(found - other).max()
    return f"{share:.1%} of the values differ, by {largest:.3g} at most (largest {other.max():.3g})"


if __name__ == "__main__":
    main()

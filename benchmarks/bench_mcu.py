"""What training costs a Cortex-M4F: instructions, flash, RAM, stack, and an estimate of the time.

    python benchmarks/bench_mcu.py [--json] [--quick] [--longer N] [--data omniglot.npz]

Builds the firmware's `learner_check` and trains under emulation, strict arithmetic, online. QEMU
counts instructions, in steps of 40, so there is no spread between runs and a busy machine changes
nothing. Instructions are not cycles: an M4F takes more for loads, branches and divisions. A
multiply-accumulate (MAC) is one of a weight and an output position; a training step is counted as
three forward passes, padding included. MACs with a zero input and taps in the padding count, yet
most are never computed: fewer than 2 instructions a MAC means that, not a faster multiplication.
Models see random inputs, so zeros come from the ReLUs alone; "drawn" is a further line, without a
bar, on images with as much ink as Omniglot's.
A missed bar is marked; only bits that are not this machine's are a failure.

Then an estimate of milliseconds and millijoules at 64 MHz: mcu_estimate.py and cycle_model.py say
from what. At last TinyReptile and Reptile, each as long as it takes to the same loss, on sine and,
where the data is (--data or TINYFLEET_DATA), Omniglot: mcu_strategies.py says how. --quick halves
the gradients on sine and leaves Omniglot out; --longer multiplies those of both. It takes about six
minutes, two with --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine
from mcu_estimate import Estimate, Round, estimate_round, estimate_sample, show_estimates
from mcu_strategies import (
    OMNIGLOT,
    RATIO_BAR,
    SINE,
    Comparison,
    Contest,
    Setting,
    document,
    show_comparisons,
)

from mcu_bridge.emulator import PROGRAM
from mcu_bridge.learner_check import train_on_emulated_board
from tinyfleet.errors import TinyFleetError
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import Conv2D
from tinyfleet.model.spec import LOSSES, ModelSpec
from tinyfleet.strategies.plan import Phase

FIRMWARE = Path(__file__).resolve().parents[1] / "mcu_bridge/firmware"
SEED = 1
MSE, CROSS_ENTROPY = LOSSES
SINE_SAMPLES, IMAGE_SAMPLES = 500, 50
INSTRUCTIONS_BAR = {"mlp_32": 10_500.0}
PER_MAC_BAR = {"cnn_s": 2.0}
INK = 1 / 7  # of a drawing: 86.5 % of the pixels of Omniglot's evaluation split are paper, 0


@dataclass(frozen=True)
class Cost:
    """Of one model; instructions are per training sample."""

    model: str
    parameters: int
    macs: int
    instructions: float
    per_mac: float
    ram_bytes: int
    stack_bytes: int

    @property
    def misses(self) -> bool:
        name = self.model
        return self.instructions > INSTRUCTIONS_BAR.get(name, np.inf) or self.per_mac > (
            PER_MAC_BAR.get(name, np.inf)
        )


def forward_macs(spec: ModelSpec) -> int:
    """Weights times the output positions that each serves: padding counts, biases do not."""
    total = 0
    for placed in spec.placed:
        height, width, _ = placed.output_shape
        total += placed.weights * (height * width if isinstance(placed.layer, Conv2D) else 1)
    return total


def random_samples(spec: ModelSpec, count: int, drawn: bool = False) -> Samples:
    """Normal inputs, or ones among zeros; targets of the kind that the loss takes."""
    rng = np.random.default_rng(SEED)
    inputs = rng.standard_normal((count, spec.inputs)).astype(np.float32)
    targets = rng.standard_normal((count, spec.outputs)).astype(np.float32)
    if spec.loss == CROSS_ENTROPY:
        targets = np.eye(spec.outputs, dtype=np.float32)[targets.argmax(axis=1)]
    if drawn:
        inputs = (rng.random(inputs.shape) < INK).astype(np.float32)
    return Samples(inputs, targets)


def cost_of(program: Path, spec: ModelSpec, count: int, drawn: bool = False) -> Cost:
    """Train on `count` samples there and here, and compare the bits before counting anything."""
    samples, phase = random_samples(spec, count, drawn), Phase(count, 0.01)
    here = initial_parameters(spec, SEED)
    there = train_on_emulated_board(program, spec, here, samples, phase)
    NativeLearner(spec).train(here, samples, phase)
    if here.tobytes() != there.parameters.tobytes():
        raise SystemExit(f"{spec.name}: the board's bits are not this machine's")
    each, macs = there.instructions / count, forward_macs(spec)
    ram = there.ram_bytes
    sizes = (len(here), macs, each, each / (3 * macs), ram, there.stack_bytes)
    return Cost(f"{spec.name} drawn" if drawn else spec.name, *sizes)


def build(folder: Path) -> str:
    """Build the firmware into `folder`; returns what the build says of the product's sizes."""
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which(PROGRAM) is None:
        packages = "gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
        raise SystemExit(f"a cross compiler or QEMU is missing; install {packages}")
    command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={folder}"]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return "".join(line for line in said.splitlines(keepends=True) if line.startswith("tinyfleet"))


def models() -> list[tuple[ModelSpec, int, bool]]:
    """What is measured, on how many samples of it, and whether they are drawn."""
    images = [builtin_model(name, (28, 28, 1), 5, CROSS_ENTROPY) for name in ("cnn_s", "cnn_m")]
    sines = [builtin_model(name, (1, 1, 1), 1, MSE) for name in ("mlp_32", "mlp_64")]
    both = [(spec, IMAGE_SAMPLES, drawn) for drawn in (False, True) for spec in images]
    return [*((spec, SINE_SAMPLES, False) for spec in sines), *both]


def show(costs: list[Cost]) -> None:
    print("model       parameters  instructions a sample  per MAC of three passes   RAM B  stack B")
    for c in costs:
        size = f"{c.model:11}{c.parameters:11,}"
        rest = f"{c.instructions:23,.0f}{c.per_mac:25.2f}{c.ram_bytes:8,}{c.stack_bytes:9,}"
        print(f"{size}{rest}{'   MISSED' if c.misses else ''}")
    for name, bar in INSTRUCTIONS_BAR.items():
        print(f"bar: {name} at most {bar:,.0f} instructions a sample")
    for name, bar in PER_MAC_BAR.items():
        print(f"bar: {name} at most {bar} instructions per MAC")


def estimates(program: Path, costs: list[Cost]) -> list[Estimate]:
    """One of each cost, from a log of fewer samples."""
    return [
        estimate_sample(
            program, cost.model, spec, random_samples(spec, count, drawn), cost.instructions, SEED
        )
        for cost, (spec, count, drawn) in zip(costs, models(), strict=True)
    ]


def rounds(of: list[Estimate]) -> list[Round]:
    """Of what the tasks recommend: 128 samples of sine with mlp_64, 100 of Omniglot with cnn_s."""
    found = {estimate.model: estimate for estimate in of}
    specs = {spec.name: spec for spec, _, _ in models()}
    sine, images = specs["mlp_64"], specs["cnn_s"]
    points, drawings = random_samples(sine, 128), random_samples(images, 100, drawn=True)
    return [
        estimate_round(found["mlp_64"], sine, points, SEED),
        estimate_round(found["cnn_s drawn"], images, drawings, SEED),
    ]


Chosen = list[tuple[Setting, Path | None]]


def settings(data: Path | None, quick: bool, longer: float) -> Chosen:
    """What is compared, and from which data."""
    factor = longer / 2 if quick else longer
    sine, omniglot = (
        replace(each, gradients=round(each.gradients * factor)) for each in (SINE, OMNIGLOT)
    )
    if quick or data is None:
        why = "--quick" if quick else "no --data and no TINYFLEET_DATA"
        print(f"Omniglot is left out: {why}", file=sys.stderr)
        return [(sine, None)]
    return [(sine, None), (omniglot, data)]


Report = tuple[str, list[Cost], list[Estimate], list[tuple[Setting, list[Comparison]]]]


def measure(compared: Chosen) -> Report:
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "learner_check.elf"
        chosen = [(each, Contest(each, program, where)) for each, where in compared]
        sizes = build(Path(name))
        costs = [cost_of(program, *each) for each in models()]
        weighed = estimates(program, costs)
        contests = [(setting, contest.comparisons()) for setting, contest in chosen]
    return sizes, costs, weighed, contests


def to_document(report: Report) -> dict[str, Any]:
    sizes, costs, weighed, contests = report
    return {
        "machine": describe_machine(),
        "seed": SEED,
        "sizes": sizes.splitlines(),
        "models": [{**asdict(cost), "missed": cost.misses} for cost in costs],
        "estimates": [asdict(estimate) for estimate in weighed],
        "rounds": [asdict(each) for each in rounds(weighed)],
        "comparisons": [document(each) for _, comparisons in contests for each in comparisons],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="half the gradients, no Omniglot")
    parser.add_argument("--longer", type=float, default=1.0, help="times as many gradients")
    default = os.environ.get("TINYFLEET_DATA")
    parser.add_argument("--data", type=Path, default=default, help="Omniglot's file")
    arguments = parser.parse_args()
    try:
        report = measure(settings(arguments.data, arguments.quick, arguments.longer))
    except TinyFleetError as error:
        raise SystemExit(f"bench_mcu: {error}") from None
    if arguments.json:
        print(json.dumps(to_document(report)))
        return
    sizes, costs, weighed, contests = report
    print(f"{describe_machine()}; seed {SEED}\n{sizes}", end="")
    show(costs)
    show_estimates(weighed, rounds(weighed))
    for setting, comparisons in contests:
        show_comparisons(setting, comparisons)
    print(f"\nbar: Reptile takes at least {RATIO_BAR:g} times the time and RAM")


if __name__ == "__main__":
    main()

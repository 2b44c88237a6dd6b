"""What it saves that a board encodes its update: bytes on the line, and what encoding costs it.

    python benchmarks/bench_uploads.py [--json]

A round of TinyMetaFed with its own defaults (60 samples, P = 25 %, the last layer stays on the
board): parameters go to the board, then the samples; back come all parameters, when the host
encodes, or the update. The bytes are those of link.md's frames, without commands and their answers.
The update is of a real training; the board's must have this machine's bytes before anything is
counted. Instructions are QEMU's count of `encoder_check`, milliseconds an estimate at 64 MHz
with the cycles an instruction of training (README), although software for doubles has other ones.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from machine import describe_machine
from mcu_estimate import BAUDS, BITS_A_BYTE, CLOCK_HZ, wire_bytes

from mcu_bridge.encoder_check import encode_on_emulated_board
from mcu_bridge.sample_encoding import encode_samples
from tinyfleet.errors import TinyFleetError
from tinyfleet.exchange import Exchange
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples, run_plan
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import LOSSES, ModelSpec
from tinyfleet.strategies.tiny_meta_fed import TinyMetaFed

FIRMWARE = Path(__file__).resolve().parents[1] / "mcu_bridge/firmware"
SEED = 1
SLOT = (SEED, 0, 0)
CYCLES_AN_INSTRUCTION = 1.7
INK = 1 / 7  # as in bench_mcu.py


@dataclass(frozen=True)
class Encoding:
    """Of one model in one precision. line bytes: of a round, both ways, all frames."""

    model: str
    precision: str
    sent_entries: int
    update_bytes: int
    line_bytes_of_parameters: int
    line_bytes_of_update: int
    instructions: int
    milliseconds: float
    saved_ms: dict[int, float]


def rounds() -> list[tuple[ModelSpec, Samples]]:
    """The models, and what TinyMetaFed's 60 samples are for them: points of a sine, or drawings."""
    random = np.random.default_rng(SEED)
    sine = builtin_model("mlp_64", (1, 1, 1), 1, LOSSES[0])
    points = random.uniform(-3, 3, (60, 1)).astype(np.float32)
    images = builtin_model("cnn_s", (28, 28, 1), 5, LOSSES[1])
    drawings = (random.random((60, 784)) < INK).astype(np.float32)
    classes = np.eye(5, dtype=np.float32)[np.arange(60) % 5]
    return [(sine, Samples(points, np.sin(points))), (images, Samples(drawings, classes))]


def encoding_of(program: Path, spec: ModelSpec, samples: Samples, precision: str) -> Encoding:
    """Train here, encode there and here, compare the bytes."""
    layers = tuple(placed.name for placed in spec.placed if placed.start < placed.stop)
    plan = TinyMetaFed(rounds=1, layers=layers, precision=precision).plan(0)
    exchange = Exchange(spec, plan)
    start = initial_parameters(spec, SEED)
    trained = start.copy()
    run_plan(NativeLearner(spec), trained, samples, plan)
    expected = bytes(exchange.encode(trained - start, *SLOT))
    change, entries = exchange.shared(trained - start), exchange.most_entries
    there = encode_on_emulated_board(program, change, entries, precision, exchange.noise(*SLOT))
    if there.data != expected:
        raise SystemExit(f"{spec.name} in {precision}: the board's bytes are not this machine's")
    parameters = wire_bytes(start.tobytes())
    others = parameters + wire_bytes(encode_samples(samples).data)
    before, after = others + parameters, others + wire_bytes(expected)
    saved = {baud: (before - after) * BITS_A_BYTE / baud * 1e3 for baud in BAUDS}
    ms = there.instructions * CYCLES_AN_INSTRUCTION / CLOCK_HZ * 1e3
    sizes = (entries, len(expected), before, after, there.instructions)
    return Encoding(spec.name, precision, *sizes, ms, saved)


def measure() -> list[Encoding]:
    with tempfile.TemporaryDirectory() as name:
        program = Path(name) / "encoder_check.elf"
        command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={name}", str(program)]
        subprocess.run(command, check=True)
        return [
            encoding_of(program, spec, samples, precision)
            for spec, samples in rounds()
            for precision in ("float32", "float16", "int8")
        ]


def show(found: list[Encoding]) -> None:
    print(f"{describe_machine()}; seed {SEED}")
    print("model   precision   entries  update B   line B: parameters   update", end="")
    print("   encoding: instructions     ms   saved ms at 115,200 and 1,000,000 baud")
    for one in found:
        line = f"{one.line_bytes_of_parameters:21,}{one.line_bytes_of_update:9,}"
        cost = f"{one.instructions:26,}{one.milliseconds:7.1f}"
        saved = "".join(f"{one.saved_ms[baud]:12,.0f}" for baud in BAUDS)
        print(f"{one.model:8}{one.precision:10}{one.sent_entries:9,}{one.update_bytes:10,}", end="")
        print(f"{line}{cost}{saved}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    try:
        found = measure()
    except (TinyFleetError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench_uploads: {error}")
    if options.json:
        rows = [asdict(one) for one in found]
        print(json.dumps({"machine": describe_machine(), "seed": SEED, "encodings": rows}))
    else:
        show(found)


if __name__ == "__main__":
    main()

"""Milliseconds and millijoules of a Cortex-M4F at 64 MHz, of a sample and of a round: estimates.

The cycles are cycle_model.py's. POWER_W is an assumption: an nRF52840 takes about 52 uA/MHz at 3 V
when it runs from its flash with the DC/DC converter, as its data sheet is recalled; that is 10 mW
at 64 MHz, for processor, flash and RAM, not for the line or the rest of a board. Time on the line
counts the frames of link.md to the bit, 10 bits a byte, parameters to the board and back and the
samples; not the commands, nor waiting for their answers. Samples travel as the bridge encodes
them. Training and line are summed, though a board trains on one sample while the next arrives.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cycle_model import ESTIMATE, HIGH, LOW, trace

from mcu_bridge.link.frame import BLOCK, DATA, encode_frame
from mcu_bridge.sample_encoding import encode_samples
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import ModelSpec
from tinyfleet.strategies.plan import Phase

CLOCK_HZ = 64_000_000
POWER_W = 0.010
BAUDS = (115_200, 1_000_000)
BITS_A_BYTE = 10
TRACED_INSTRUCTIONS = 1_500_000  # at most, or one sample: a second or two of QEMU's log
RATE = 0.01


@dataclass(frozen=True)
class Estimate:
    """Of one training sample. cycles: estimate, lowest and highest reading of the manual."""

    model: str
    instructions: float
    traced_samples: int
    cycles_per_instruction: tuple[float, float, float]
    mix: dict[str, float]
    milliseconds: float
    lowest_milliseconds: float
    highest_milliseconds: float
    millijoules: float


def estimate_sample(
    program: Path, name: str, spec: ModelSpec, samples: Samples, instructions: float, seed: int
) -> Estimate:
    """`instructions`: of a sample, from a longer run than can be logged."""
    count = int(min(len(samples), max(1, TRACED_INSTRUCTIONS // instructions)))
    start = initial_parameters(spec, seed)
    traced = trace(program, spec, start, samples[:count], Phase(count, RATE))
    each = [traced.cycles_per_instruction(reading) for reading in (ESTIMATE, LOW, HIGH)]
    ms = [instructions * cycles / CLOCK_HZ * 1e3 for cycles in each]
    middle, low, high = each
    return Estimate(
        name, instructions, count, (middle, low, high), traced.mix(), *ms, ms[0] * POWER_W
    )


@dataclass(frozen=True)
class Round:
    """Of TinyReptile on one board. line_bytes: all frames, both ways; line_ms: by baud rate."""

    model: str
    samples: int
    training_ms: float
    training_mj: float
    parameter_bytes: int
    sample_bytes: int
    line_bytes: int
    line_ms: dict[int, float]


def wire_bytes(data: bytes) -> int:
    """What `data` takes on the line as the frames of a transfer."""
    blocks = range(0, len(data), BLOCK)
    payloads = (at.to_bytes(4, "little") + data[at : at + BLOCK] for at in blocks)
    return sum(len(encode_frame(DATA, 1, payload)) for payload in payloads)


def line_bytes(spec: ModelSpec, samples: Samples, seed: int) -> int:
    """The frames of a round: parameters to the board and back, and the samples."""
    parameters = initial_parameters(spec, seed).astype("<f4").tobytes()
    return 2 * wire_bytes(parameters) + wire_bytes(encode_samples(samples).data)


def estimate_round(estimate: Estimate, spec: ModelSpec, samples: Samples, seed: int) -> Round:
    """`samples`: those of the round."""
    line, count = line_bytes(spec, samples, seed), len(samples)
    return Round(
        estimate.model,
        count,
        count * estimate.milliseconds,
        count * estimate.millijoules,
        spec.parameter_bytes,
        len(encode_samples(samples).data),
        line,
        {baud: line * BITS_A_BYTE / baud * 1e3 for baud in BAUDS},
    )


def show_estimates(estimates: list[Estimate], rounds: list[Round]) -> None:
    watts = f"{POWER_W * 1e3:.0f} mW"
    print(f"\nestimate at {CLOCK_HZ / 1e6:.0f} MHz and {watts}: no chip has been timed")
    print("model        cycles an instruction   ms a sample (low to high)   mJ a sample")
    for e in estimates:
        cpi, low, high = e.cycles_per_instruction
        span = f"{e.milliseconds:.3f} ({e.lowest_milliseconds:.3f} to {e.highest_milliseconds:.3f})"
        print(f"{e.model:12}{f'{cpi:.2f} ({low:.2f} to {high:.2f})':>22}{span:>28}", end="")
        print(f"{e.millijoules:14.5f}")
    kinds = sorted(estimates[0].mix, key=lambda kind: -estimates[0].mix[kind])
    print(f"\n{'% of the instructions':26}{''.join(f'{e.model:>12}' for e in estimates)}")
    for kind in kinds:
        print(f"{kind:26}{''.join(f'{100 * e.mix.get(kind, 0):12.1f}' for e in estimates)}")
    print("\na round of TinyReptile on one board, estimated")
    for r in rounds:
        line = ", ".join(f"{ms:,.0f} ms at {baud:,} baud" for baud, ms in r.line_ms.items())
        training = f"{r.training_ms:,.0f} ms and {r.training_mj:.2f} mJ"
        print(
            f"{r.model}: {r.samples} samples: training {training}; {r.line_bytes:,} B on the line"
        )
        print(
            f"    (2 x {r.parameter_bytes:,} of parameters, {r.sample_bytes:,} of samples): {line}"
        )

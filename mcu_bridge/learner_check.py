"""One phase of training by `learner_check`, the firmware's learner as a program that reads a file.

`case_to_bytes` is the format of firmware/checks/learner_check.c and of the tests' learner_main.c.
"""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mcu_bridge.emulator import INSTRUCTIONS_PER_TICK, run_program
from tinyfleet.errors import Refused
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

HEAD = struct.Struct("<II")
PHASE = struct.Struct("<QIIIff4x")  # MUST match phase_t and learner_phase_t
COST = struct.Struct("<III")


@dataclass(frozen=True)
class BoardTrained:
    """What a board made of a phase.

    `losses` is `(samples * passes,) float32`, each just before its update. `instructions` counts
    the training alone, to 40 a sample. `stack_bytes` is the highest stack, `ram_bytes` what the
    model, its arena and one sample took.
    """

    parameters: Parameters
    losses: NDArray[np.float32]
    instructions: int
    stack_bytes: int
    ram_bytes: int


def case_to_bytes(spec: ModelSpec, parameters: Parameters, samples: Samples, phase: Phase) -> bytes:
    """Model, phase, parameters and samples in one file, little-endian."""
    mask = spec.layer_mask(phase.trainable)
    counts = (phase.samples, phase.batch_size, phase.passes)
    head = HEAD.pack(len(spec.layers), LOSS_CODES[spec.loss]) + layer_table(spec)
    arrays = (parameters, samples.inputs, samples.targets)
    floats = b"".join(array.astype("<f4").tobytes() for array in arrays)
    return head + PHASE.pack(mask, *counts, phase.rate, phase.proximal) + floats


def train_on_emulated_board(
    program: Path,
    spec: ModelSpec,
    parameters: Parameters,
    samples: Samples,
    phase: Phase,
    timeout_s: float = 60.0,
) -> BoardTrained:
    """Train a copy of `parameters` under emulation; raises Refused when the board refuses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "case.bin").write_bytes(case_to_bytes(spec, parameters, samples, phase))
        status = run_program(program, folder, timeout_s)
        if status != 0:
            raise Refused(f"{program.name} ended with status {status}")
        return _read((folder / "trained.bin").read_bytes(), phase.samples * phase.passes)


def _read(data: bytes, losses: int) -> BoardTrained:
    floats = np.frombuffer(data[: -COST.size], "<f4")
    ticks, stack_bytes, ram_bytes = COST.unpack(data[-COST.size :])
    instructions = ticks * INSTRUCTIONS_PER_TICK
    return BoardTrained(floats[losses:], floats[:losses], instructions, stack_bytes, ram_bytes)

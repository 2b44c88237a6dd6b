"""One update encoded by `encoder_check`, the firmware's encoder as a program that reads a file."""

from __future__ import annotations

import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mcu_bridge.device.update import noise_words
from mcu_bridge.emulator import INSTRUCTIONS_PER_TICK, run_program
from tinyfleet.codec.values import precision_named
from tinyfleet.errors import Refused
from tinyfleet.model.spec import Parameters
from tinyfleet.randomness import RandomStream

_CASE = struct.Struct("<IIIIQQQQ")  # MUST match case_t in firmware/checks/encoder_check.c
_COST = struct.Struct("<II")


@dataclass(frozen=True)
class BoardEncoded:
    """What a board made of a change.

    data: the update. instructions: of encoding it alone, to 40. stack_bytes: the highest stack.
    """

    data: bytes
    instructions: int
    stack_bytes: int


def encode_on_emulated_board(
    program: Path,
    change: Parameters,
    entries: int,
    precision: str,
    noise: RandomStream | None,
    timeout_s: float = 60.0,
) -> BoardEncoded:
    """Encode `(n,) float32` under emulation; raises Refused when the board refuses."""
    head = _CASE.pack(len(change), entries, precision_named(precision), 0, *noise_words(noise))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "change.bin").write_bytes(head + change.astype("<f4").tobytes())
        status = run_program(program, folder, timeout_s)
        if status != 0:
            raise Refused(f"{program.name} ended with status {status}")
        return _read((folder / "update.bin").read_bytes())


def _read(data: bytes) -> BoardEncoded:
    ticks, stack_bytes = _COST.unpack(data[-_COST.size :])
    return BoardEncoded(data[: -_COST.size], ticks * INSTRUCTIONS_PER_TICK, stack_bytes)

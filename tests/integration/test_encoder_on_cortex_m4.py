"""The firmware's encoder, on an emulated Cortex-M4, writes this machine's bytes."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from mcu_bridge.encoder_check import encode_on_emulated_board
from tinyfleet.codec.selected import encode_selected
from tinyfleet.codec.selection import entries_of
from tinyfleet.errors import Refused
from tinyfleet.model.spec import Parameters
from tinyfleet.randomness import Purpose, RandomStream

FIRMWARE = Path(__file__).resolve().parents[2] / "mcu_bridge/firmware"
STACK_BYTES = 768  # with the program around it

pytestmark = [
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The check program, built as the page of mcu_bridge says."""
    folder = tmp_path_factory.mktemp("firmware")
    program = folder / "encoder_check.elf"
    command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={folder}", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return program


def noise() -> RandomStream:
    return RandomStream(2**63 - 1, Purpose.UPLOAD, 7, 1023)


def of_all_magnitudes(seed: int) -> Parameters:
    """From the least subnormal to the largest number, with ties between float16's and zeros."""
    random = np.random.default_rng(seed)
    bits = random.integers(0, 0x7F800000, 3000, dtype=np.uint32)
    bits[::3] &= np.uint32(0xFFFFF000)
    bits |= random.integers(0, 2, 3000, dtype=np.uint32) << np.uint32(31)
    change = bits.view(np.float32).copy()
    change[::7] = 0
    return change


def of_subnormals(seed: int) -> Parameters:
    bits = np.random.default_rng(seed).integers(0, 1 << 12, 500, dtype=np.uint32)
    return bits.view(np.float32).copy()


def of_training(seed: int) -> Parameters:
    return np.random.default_rng(seed).normal(size=8453).astype(np.float32)


@pytest.mark.parametrize("fraction", [0.01, 0.25, 1.0])
@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("change_of", [of_training, of_all_magnitudes, of_subnormals])
def test_an_update_has_this_machines_bytes(program, change_of, precision, fraction, seed) -> None:
    change = change_of(seed)
    expected = encode_selected(change, fraction, precision, noise())
    entries = entries_of(fraction, len(change))
    found = encode_on_emulated_board(program, change, entries, precision, noise())
    assert found.data == expected
    assert 0 < found.stack_bytes <= STACK_BYTES


def test_a_change_that_cannot_be_is_refused(program) -> None:
    change = np.ones(10, np.float32)
    with pytest.raises(Refused):
        encode_on_emulated_board(program, change, 11, "float32", None)
    with pytest.raises(Refused):
        encode_on_emulated_board(program, np.ones(60_000, np.float32), 1, "float32", None)

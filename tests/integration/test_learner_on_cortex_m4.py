"""The firmware's learner, on an emulated Cortex-M4 with 256 KB RAM, gives this machine's bits."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from learner_cases import CASES, CROSS_ENTROPY, Case, case, differing, trained_here

from mcu_bridge.emulator import FAULT_STATUS, run_program
from mcu_bridge.learner_check import BoardTrained, train_on_emulated_board
from tinyfleet.errors import Refused
from tinyfleet.learner.memory import memory_needed
from tinyfleet.model.builtin import builtin_model
from tinyfleet.strategies.plan import Phase

FIRMWARE = Path(__file__).resolve().parents[2] / "mcu_bridge/firmware"
ROUNDING_BYTES = 5 * 7  # each of the five parts starts at a multiple of 8
STACK_BYTES = 1024 + 256  # learner.h's promise, and the program around it
TIMEOUT_S = 60.0
# MUST match firmware/checks/fault_check.c
RULES = {
    "write flash": b"w",
    "read beyond flash": b"f",
    "write beyond RAM": b"r",
    "run RAM": b"x",
    "overflow the stack": b"s",
}

pytestmark = [
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("qemu-system-arm", command="qemu-system-arm"),
]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the firmware's test programs, built as the page of mcu_bridge says."""
    folder = tmp_path_factory.mktemp("firmware")
    return build(folder)


def build(folder: Path, *settings: str) -> Path:
    command = ["make", "-s", "-C", str(FIRMWARE), f"BUILD={folder}", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def trained_there(programs: Path, case: Case) -> BoardTrained:
    program = programs / "learner_check.elf"
    given = (case.spec, case.parameters, case.samples, case.phase)
    return train_on_emulated_board(program, *given, TIMEOUT_S)


def cnn_m(batch_size: int = 1) -> Case:
    """28,709 parameters, 112 KiB: a second vector of that size, as batches need, does not fit."""
    spec = builtin_model("cnn_m", (28, 28, 1), 5, CROSS_ENTROPY)
    return case(spec, Phase(4, 0.01, batch_size=batch_size))


@pytest.mark.parametrize("case", [*CASES.values(), cnn_m()], ids=[*CASES, "cnn_m"])
def test_a_trained_model_has_this_machines_bits(programs: Path, case: Case) -> None:
    expected, here = trained_here(case)
    assert expected.finite
    there = trained_there(programs, case)
    assert differing(there.parameters, case.parameters) > len(here) / 4  # it did learn something
    assert differing(there.parameters, here) == 0
    assert sum(map(float, there.losses)) / len(there.losses) == expected.loss


def test_a_build_with_fused_operations_would_be_noticed(tmp_path: Path) -> None:
    """What the flag prevents does happen on this processor, and this case shows it."""
    fused = build(tmp_path, "ARITHMETIC=-ffp-contract=fast")
    _, here = trained_here(CASES["mlp_32"])
    assert differing(trained_there(fused, CASES["mlp_32"]).parameters, here) > 0


def test_cnn_m_needs_little_ram_beside_the_model(programs: Path) -> None:
    given = cnn_m()
    there = trained_there(programs, given)
    assert there.ram_bytes - memory_needed(given.spec).online_bytes <= ROUNDING_BYTES
    assert 0 < there.stack_bytes <= STACK_BYTES


def test_a_case_beyond_the_ram_is_refused(programs: Path) -> None:
    with pytest.raises(Refused, match="status 100"):
        trained_there(programs, cnn_m(batch_size=4))


def test_training_costs_the_same_on_every_run(programs: Path) -> None:
    first, second = (trained_there(programs, CASES["mlp_32"]) for _ in range(2))
    assert first.instructions == second.instructions > 0
    assert np.array_equal(first.parameters, second.parameters)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_an_access_that_a_real_board_cannot_make_is_a_fault(
    programs: Path, tmp_path: Path, rule: bytes
) -> None:
    (tmp_path / "case.bin").write_bytes(rule)
    assert run_program(programs / "fault_check.elf", tmp_path, TIMEOUT_S) == FAULT_STATUS


def test_a_program_that_keeps_the_rules_does_not_fault(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "case.bin").write_bytes(b"n")
    assert run_program(programs / "fault_check.elf", tmp_path, TIMEOUT_S) == 0

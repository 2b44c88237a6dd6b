"""The C learner gives this machine's bits on the processors of devices, and built by clang.

It is compiled with setup.py's flags for 64-bit and 32-bit Arm and run there under QEMU's emulation,
which follows the processors' own rules for rounding, fused operations and subnormals.
"""

import ast
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from learner_cases import CASES, Case, differing, trained_here

from mcu_bridge.learner_check import case_to_bytes
from tinyfleet.learner.protocol import Trained
from tinyfleet.model.spec import Parameters

ROOT = Path(__file__).resolve().parents[2]
LEARNER = ROOT / "mcu_bridge/firmware/learner"
MAIN = Path(__file__).with_name("learner_main.c")


@dataclass(frozen=True)
class Target:
    """A compiler, the Debian package it is in, its flags and the emulator, where one is needed."""

    compiler: str
    package: str
    flags: tuple[str, ...] = ()
    emulator: str | None = None


AARCH64 = Target("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu", (), "qemu-aarch64-static")
ARMHF = Target("arm-linux-gnueabihf-gcc", "gcc-arm-linux-gnueabihf", (), "qemu-arm-static")
# The processor of a Raspberry Pi 2: vectors that flush subnormals, scalars that can fuse.
NEON_FLAGS = ("-mcpu=cortex-a7", "-mfpu=neon-vfpv4")
NEON = Target(ARMHF.compiler, ARMHF.package, NEON_FLAGS, ARMHF.emulator)
CLANG = Target("clang", "clang")
TARGETS = {"aarch64": AARCH64, "armhf": ARMHF, "armhf-neon": NEON, "clang": CLANG}


def needed(target: Target) -> list[pytest.MarkDecorator]:
    """The marks that skip a test where the target's packages are missing, and fail it in CI."""
    needs = pytest.mark.needs_package
    compiler = needs(target.package, command=target.compiler)
    return [compiler, needs("qemu-user-static", command=target.emulator)]


def build(target: Target, folder: Path, *extra: str) -> list[str]:
    """Compile the learner as setup.py does, as a program; returns the command that runs it."""
    path = folder / "learner"
    sources = [str(MAIN), *sorted(map(str, LEARNER.glob("*.c")))]
    flags = [*installed_flags(), "-Werror", f"-I{LEARNER}", *target.flags, *extra, "-static"]
    command = [target.compiler, *flags, *sources, "-o", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [target.emulator, str(path)] if target.emulator else [str(path)]


def installed_flags() -> list[str]:
    """The arithmetic and the warnings of setup.py, which cannot be imported."""
    body = ast.parse((ROOT / "setup.py").read_text("utf-8")).body
    lists = {ast.unparse(n.targets[0]): n.value for n in body if isinstance(n, ast.Assign)}
    return [flag for name in ("ARITHMETIC", "WARNINGS") for flag in ast.literal_eval(lists[name])]


def trained_by(program: list[str], case: Case) -> tuple[Trained, Parameters]:
    """What `program` made of the case; raises CalledProcessError unless all stayed finite."""
    given = case_to_bytes(case.spec, case.parameters, case.samples, case.phase)
    out = subprocess.run(program, input=given, stdout=subprocess.PIPE, check=True).stdout
    loss_sum, losses, updates = struct.unpack_from("<dQQ", out)
    parameters = np.frombuffer(out, np.float32, offset=struct.calcsize("<dQQ"))
    return Trained(loss_sum / losses, updates, finite=True), parameters


# ---- the promise ----


@pytest.fixture(
    scope="module", params=[pytest.param(t, id=i, marks=needed(t)) for i, t in TARGETS.items()]
)
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(request.param, tmp_path_factory.mktemp("learner"))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_trained_model_has_this_machines_bits(program: list[str], case: Case) -> None:
    expected, here = trained_here(case)
    assert expected.finite
    assert differing(here, case.parameters) > len(here) / 4  # it did learn something
    done, there = trained_by(program, case)
    assert differing(there, here) == 0
    assert done == expected


@pytest.mark.parametrize(
    ("target", "flag", "name"),
    [
        pytest.param(AARCH64, "-ffp-contract=fast", "mlp_32", marks=needed(AARCH64)),
        pytest.param(NEON, "-funsafe-math-optimizations", "subnormals", marks=needed(NEON)),
    ],
    ids=["fused multiply-add", "flushed subnormals"],
)
def test_a_build_with_other_arithmetic_would_be_noticed(
    tmp_path: Path, target: Target, flag: str, name: str
) -> None:
    """What the flags prevent does happen on these processors, and these cases show it."""
    _, here = trained_here(CASES[name])
    _, there = trained_by(build(target, tmp_path, flag), CASES[name])
    assert differing(there, here) > 0

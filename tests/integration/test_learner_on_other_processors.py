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

from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.native import NativeLearner, PhaseRecord
from tinyfleet.learner.protocol import Samples, Trained
from tinyfleet.model.builtin import builtin_model
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.model.spec import LOSSES, ModelSpec, Parameters
from tinyfleet.strategies.plan import Phase

ROOT = Path(__file__).resolve().parents[2]
LEARNER = ROOT / "mcu_bridge/firmware/learner"
MAIN = Path(__file__).with_name("learner_main.c")
MSE, CROSS_ENTROPY = LOSSES
SUBNORMAL = np.float32(1e-39)  # the smallest normal float32 is 1.2e-38


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


# ---- what is trained ----


@dataclass(frozen=True)
class Case:
    """One phase of training."""

    spec: ModelSpec
    parameters: Parameters
    samples: Samples
    phase: Phase


def image_model() -> ModelSpec:
    """Channels that fill vectors of every width, and that leave some over."""
    body = (Conv2D(11, 3, 1, 1), ReLU(), DepthwiseConv2D(3, 1, 1), Tanh(), MaxPool2D(2, 2))
    top = (Conv2D(9, 2), Tanh(), AveragePool2D(2, 1), Flatten(), Dense(34), ReLU(), Dense(5))
    return ModelSpec("images", (10, 9, 2), (*body, *top), CROSS_ENTROPY)


def pooled_model() -> ModelSpec:
    layers = (Conv2D(8, 3, 2, 1), Tanh(), Conv2D(3, 1), GlobalAveragePool2D())
    return ModelSpec("pooled", (8, 8, 1), layers, CROSS_ENTROPY)


def case(spec: ModelSpec, phase: Phase) -> Case:
    """`phase` on random samples, of whose inputs a quarter are zeros."""
    random = np.random.default_rng(7)
    inputs = random.normal(size=(phase.samples, spec.inputs)).astype(np.float32)
    inputs[random.random(inputs.shape) < 0.25] = 0.0
    targets = random.normal(size=(phase.samples, spec.outputs)).astype(np.float32)
    if spec.loss == CROSS_ENTROPY:
        targets = np.eye(spec.outputs, dtype=np.float32)[targets.argmax(axis=1)]
    return Case(spec, initial_parameters(spec, 7), Samples(inputs, targets), phase)


def subnormal_case() -> Case:
    """Training within subnormals: the errors, the steps and all parameters but the last weights."""
    layers = (Dense(40), ReLU(), Dense(16))
    normal = case(ModelSpec("subnormals", (1, 1, 8), layers, MSE), Phase(300, 0.02))
    samples = Samples(normal.samples.inputs, normal.samples.targets * SUBNORMAL)
    weights = slice(normal.spec.placed[-1].start, -normal.spec.outputs)
    parameters = normal.parameters * SUBNORMAL
    parameters[weights] = normal.parameters[weights]
    return Case(normal.spec, parameters, samples, normal.phase)


def cases() -> dict[str, Case]:
    sine, images = builtin_model("mlp_32", (1, 1, 1), 1, MSE), image_model()
    some_layers = Phase(100, 0.02, trainable=("conv2d_1", "dense_1"))
    return {
        "mlp_32": case(sine, Phase(200, 0.02, passes=2)),
        "mlp_32 in batches": case(sine, Phase(101, 0.05, batch_size=10, passes=5)),
        "images": case(images, Phase(150, 0.01, passes=2)),
        "images in batches": case(images, Phase(50, 0.05, batch_size=8, passes=2)),
        "images, some layers": case(images, some_layers),
        "pooled": case(pooled_model(), Phase(200, 0.05)),
        "subnormals": subnormal_case(),
    }


CASES = cases()


def trained_here(case: Case) -> tuple[Trained, Parameters]:
    parameters = case.parameters.copy()
    return NativeLearner(case.spec).train(parameters, case.samples, case.phase), parameters


def trained_by(program: list[str], case: Case) -> tuple[Trained, Parameters]:
    """What `program` made of the case; raises CalledProcessError unless all stayed finite."""
    spec, phase = case.spec, case.phase
    counts = (phase.samples, phase.batch_size, phase.passes)
    record = PhaseRecord(spec.layer_mask(phase.trainable), *counts, phase.rate)
    head = struct.pack("<II", len(spec.layers), LOSS_CODES[spec.loss]) + layer_table(spec)
    arrays = (case.parameters, case.samples.inputs, case.samples.targets)
    given = head + bytes(record) + b"".join(array.tobytes() for array in arrays)
    out = subprocess.run(program, input=given, stdout=subprocess.PIPE, check=True).stdout
    loss_sum, losses, updates = struct.unpack_from("<dQQ", out)
    parameters = np.frombuffer(out, np.float32, offset=struct.calcsize("<dQQ"))
    return Trained(loss_sum / losses, updates, finite=True), parameters


def differing(one: Parameters, other: Parameters) -> int:
    """How many parameters differ in any bit."""
    return int((one.view(np.uint32) != other.view(np.uint32)).sum())


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

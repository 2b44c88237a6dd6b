"""An exported C header has this machine's bits on the processors of devices, emulated by QEMU."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mcu_bridge.emulator import run_program
from tinyfleet.export.c_check import STRICT
from tinyfleet.export.c_header import c_header
from tinyfleet.learner import make_learner
from tinyfleet.model import ModelSpec, builtin_model, initial_parameters
from tinyfleet.model.layers import AveragePool2D, Conv2D, Dense, Flatten, MaxPool2D, Tanh

PORT = Path(__file__).resolve().parents[2] / "mcu_bridge/firmware/port"
CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard")
COUNT = 5
TIMEOUT_S = 60.0
MAIN = """\
#include "model.h"
#ifdef CORTEX_M4
#include "cortex_m/semihosting.h"
#include "port.h"
#define main port_main
#else
#include <stdio.h>
#endif

int main(void)
{
    static float input[MODEL_INPUTS], output[MODEL_OUTPUTS];
#ifdef CORTEX_M4
    const int32_t in = host_open("input.bin", HOST_READ), out = host_open("output.bin", HOST_WRITE);
    while (host_read(in, input, sizeof input)) {
        model_predict(input, output);
        if (!host_write(out, output, sizeof output)) {
            return 1;
        }
    }
#else
    while (fread(input, sizeof input, 1, stdin) == 1) {
        model_predict(input, output);
        if (fwrite(output, sizeof output, 1, stdout) != 1) {
            return 1;
        }
    }
#endif
    return 0;
}
"""
POOLS = ModelSpec(
    "pools",
    (9, 8, 2),
    (Conv2D(6, 2), Tanh(), MaxPool2D(3, 1), AveragePool2D(2, 1), Flatten(), Dense(4), Tanh()),
    "softmax_cross_entropy",
)
SPECS = {
    "pools": POOLS,
    **{
        name: builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy")
        for name in ("mlp_32", "cnn_s", "ds_cnn_s")
    },
}
Run = Callable[[Path, bytes], bytes]


def built(folder: Path, compiler: str, *words: str) -> Path:
    command = [compiler, *STRICT, "-o", "program", "main.c", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder / "program"


def on_aarch64(folder: Path, given: bytes) -> bytes:
    program = built(folder, "aarch64-linux-gnu-gcc", "-static")
    command = ["qemu-aarch64-static", str(program)]
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, check=True).stdout


def on_cortex_m4(folder: Path, given: bytes) -> bytes:
    folders = [PORT / "cortex_m", PORT / "mps2_an386"]
    sources = [path for place in folders for path in sorted(place.glob("*.c"))]
    words = [str(path) for path in sources if path.name != "end_by_reset.c"]
    words += [str(PORT / "signal_generator.c"), f"-I{PORT}", "-DCORTEX_M4", "-nostartfiles"]
    layout = ["-T", str(PORT / "cortex_m/memory.ld"), "-Wl,--gc-sections", "-ffunction-sections"]
    program = built(folder, "arm-none-eabi-gcc", *CORTEX_M4, *words, *layout)
    (folder / "input.bin").write_bytes(given)
    assert run_program(program, folder, TIMEOUT_S) == 0
    return (folder / "output.bin").read_bytes()


def needs(*packages: tuple[str, str]) -> list[pytest.MarkDecorator]:
    return [pytest.mark.needs_package(name, command=command) for name, command in packages]


@pytest.fixture(
    params=[
        pytest.param(
            on_aarch64,
            marks=needs(
                ("gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc"),
                ("qemu-user-static", "qemu-aarch64-static"),
            ),
            id="aarch64",
        ),
        pytest.param(
            on_cortex_m4,
            marks=needs(
                ("gcc-arm-none-eabi", "arm-none-eabi-gcc"), ("qemu-system-arm", "qemu-system-arm")
            ),
            id="cortex_m4",
        ),
    ]
)
def run(request: pytest.FixtureRequest) -> Run:
    chosen: Run = request.param
    return chosen


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_its_outputs_are_the_learners(tmp_path: Path, run: Run, spec: ModelSpec) -> None:
    parameters = initial_parameters(spec, 1)
    draws = np.random.default_rng(1).normal(size=(COUNT, spec.inputs))
    inputs = draws.astype(np.float32)
    (tmp_path / "model.h").write_text(c_header(spec, parameters, "model"))
    (tmp_path / "main.c").write_text(MAIN)
    said = np.frombuffer(run(tmp_path, inputs.tobytes()), np.float32)
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_array_equal(said.reshape(COUNT, spec.outputs), expected)

"""A C header compiles everywhere without a warning and says what the learner says, to the bit."""

import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import NETWORKS, draw_parameters, draw_samples, networks

from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.export import c_check
from tinyfleet.export.c_check import STRICT, run_header
from tinyfleet.export.c_header import c_header, identifier
from tinyfleet.export.check import Disagrees, check_same, softmax
from tinyfleet.learner import make_learner
from tinyfleet.model import BUILTIN_MODELS, builtin_model
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec

COMPILERS = [
    pytest.param(name, marks=pytest.mark.needs_package(name, command=name))
    for name in ("gcc", "clang")
]


def outputs_of(spec, parameters, inputs, compiler=None, **options):
    header = c_header(spec, parameters, "model", **options)
    return run_header(header, "model", inputs, spec.outputs, compiler)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_every_layer_kind_has_the_learners_bits(trained, compiler, seed):
    spec, parameters = trained
    inputs = draw_samples(spec, 20, seed).inputs
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_array_equal(outputs_of(spec, parameters, inputs, compiler), expected)


@pytest.mark.slow
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.integers(0, 2**32 - 1))
def test_random_networks_have_the_learners_bits(spec, seed):
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 5, seed).inputs
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_array_equal(outputs_of(spec, parameters, inputs), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_every_built_in_model_has_the_learners_bits(name, seed):
    spec = builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy")
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 10, seed).inputs
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_array_equal(outputs_of(spec, parameters, inputs), expected)


def test_probabilities_are_the_softmax_of_the_logits(seed):
    spec = NETWORKS["tanh_mlp"]
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 10, seed).inputs
    said = outputs_of(spec, parameters, inputs, probabilities=True)
    check_same(said, softmax(make_learner(spec).predict(parameters, inputs)), 1e-6)


@pytest.mark.needs_package("arm-none-eabi-gcc", command="arm-none-eabi-gcc")
def test_it_compiles_for_a_microcontroller_with_the_scratch_it_states(trained, tmp_path):
    spec, parameters = trained
    header = c_header(spec, parameters, "model")
    (tmp_path / "model.h").write_text(header)
    user = '#include "model.h"\nvoid f(const float *x, float *y);\n'
    (tmp_path / "user.c").write_text(
        user + "void f(const float *x, float *y) { model_predict(x, y); }\n"
    )
    words = ["arm-none-eabi-gcc", "-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", *STRICT]
    subprocess.run([*words, "-c", "user.c", "-o", "user.o"], cwd=tmp_path, check=True)
    size = shutil.which("arm-none-eabi-size")
    said = subprocess.run(
        [size, "user.o"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    text, data, bss = map(int, said.stdout.splitlines()[1].split()[:3])
    stated = int(re.search(r"MODEL_SCRATCH_BYTES (\d+)", header)[1])
    assert (data, bss) == (0, stated)
    assert text > spec.parameter_bytes


def test_two_headers_live_in_one_program(tmp_path, seed):
    spec = NETWORKS["one_dense"]
    for name in ("first", "second"):
        header = c_header(spec, draw_parameters(spec, seed), name)
        (tmp_path / f"{name}.h").write_text(header)
    calls = "first_predict(x, y); second_predict(x, y);"
    (tmp_path / "main.c").write_text(
        '#include "first.h"\n#include "second.h"\n'
        f"int main(void) {{ float x[3] = {{0}}, y[2]; {calls} return 0; }}\n"
    )
    command = [c_check.find_compiler(), *STRICT, "-o", "main", "main.c"]
    subprocess.run(command, cwd=tmp_path, check=True)


def test_a_models_name_cannot_leave_the_comment(seed):
    spec = replace(NETWORKS["one_dense"], name="*/ int x; /* ??/ \\")
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 2, seed).inputs
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_array_equal(outputs_of(spec, parameters, inputs), expected)


@given(st.text(max_size=70))
def test_any_models_name_makes_a_name_for_c(text):
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,47}", identifier(text))


@pytest.mark.parametrize("name", ["", "2d", "a-b", "a b", "é", "a" * 49, "a;"])
def test_names_that_c_does_not_take_are_refused(name):
    spec = NETWORKS["one_dense"]
    with pytest.raises(InvalidInput, match="a name for C"):
        c_header(spec, draw_parameters(spec, 1), name)


def test_a_model_too_large_for_a_header_is_refused():
    spec = ModelSpec("large", (1, 1, 1001), (Dense(1000),), "mean_squared_error")
    with pytest.raises(DoesNotFit, match="at most"):
        c_header(spec, np.zeros(spec.parameter_count, np.float32), "large")


def test_a_header_that_does_not_compile_is_not_kept():
    with pytest.raises(Disagrees, match="does not compile"):
        run_header("this is no C\n", "model", np.zeros((1, 1), np.float32), 1)


def test_a_machine_without_a_compiler_gets_the_remedy(monkeypatch):
    monkeypatch.setattr(c_check.shutil, "which", lambda name: None)
    with pytest.raises(InvalidInput, match="install gcc or clang"):
        c_check.find_compiler()

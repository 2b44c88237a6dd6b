"""The border of the C learner: hostile tables, wrong arrays, a missing or stale library."""

import ctypes
import re
import struct
from dataclasses import fields

import numpy as np
import pytest
from builds import SOURCES, build_file, needs_gcc
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from networks import NETWORKS, draw_parameters, draw_samples

from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.learner import native
from tinyfleet.learner.layer_table import LAYER, LAYER_CODES, LOSS_CODES, layer_table
from tinyfleet.learner.native import BAD_ARGUMENT, BAD_LAYER, OK, TOO_LARGE, NativeLearner, Size
from tinyfleet.learner.protocol import Samples
from tinyfleet.model import layers as layer_bounds
from tinyfleet.model import spec as bounds
from tinyfleet.strategies.plan import Phase

MLP = NETWORKS["mlp"]
DENSE = LAYER_CODES["dense"]


def measure(library, *rows):
    table = b"".join(LAYER.pack(*row) for row in rows)
    return measure_table(library, table, len(rows))


def measure_table(library, table, count):
    size = Size()
    status = library.learner_measure(ctypes.create_string_buffer(table), count, ctypes.byref(size))
    return status, size


def dense(inputs, outputs):
    return (DENSE, 0, 0, 0, 1, 1, inputs, 1, 1, outputs)


def conv(kernel=3, stride=1, padding=0, shape=(8, 8, 2), out=(6, 6, 4)):
    return (LAYER_CODES["conv2d"], kernel, stride, padding, *shape, *out)


# ---- what the two languages must agree on ----


@pytest.fixture(scope="module")
def header():
    return (SOURCES / "learner.h").read_text("utf-8")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_LAYERS", bounds.MAX_LAYERS),
        ("MAX_VALUES", bounds.MAX_ACTIVATIONS),
        ("MAX_PARAMETERS", bounds.MAX_PARAMETERS),
        ("MAX_SIDE", layer_bounds.MAX_SIDE),
        ("ABI_VERSION", native.ABI_VERSION),
    ],
)
def test_the_bounds_are_the_same_in_c_and_python(header, name, value):
    assert int(re.search(rf"#define LEARNER_{name} (\d+)u", header)[1]) == value


def test_the_codes_are_the_same_in_c_and_python(header):
    for kind, code in (LAYER_CODES | LOSS_CODES).items():
        assert int(re.search(rf"LEARNER_{kind.upper()} = (\d+)", header)[1]) == code
    for status in ("OK", "BAD_LAYER", "TOO_LARGE", "ARENA_TOO_SMALL", "BAD_ARGUMENT", "DIVERGED"):
        code = int(re.search(rf"LEARNER_{status} = (\d+)", header)[1])
        assert getattr(native, status) == code


@needs_gcc
def test_the_sizes_are_the_specs(library, network):
    status, size = measure_table(library, layer_table(network), len(network.layers))
    assert status == OK
    assert (size.inputs, size.outputs) == (network.inputs, network.outputs)
    assert size.parameters == network.parameter_count


# ---- hostile tables ----


@needs_gcc
@pytest.mark.parametrize(
    ("rows", "status"),
    [
        ([], BAD_LAYER),
        ([dense(1, 1)] * 65, TOO_LARGE),
        ([(0, *dense(1, 1)[1:])], BAD_LAYER),
        ([(10, *dense(1, 1)[1:])], BAD_LAYER),
        ([(255, *dense(1, 1)[1:])], BAD_LAYER),
        ([(8, 0, 0, 0, 1, 1, 1, 1, 1, 1)], BAD_LAYER),  # nothing to learn
        ([dense(0, 1)], TOO_LARGE),
        ([dense(1, 0)], TOO_LARGE),
        ([dense(4_000_001, 1)], TOO_LARGE),
        ([dense(2**32 - 1, 2**32 - 1)], TOO_LARGE),
        ([dense(65_536, 65_536)], TOO_LARGE),  # weights: 2^32, 0 in 32 bits
        ([dense(4000, 4000)], TOO_LARGE),  # the biases are too many
        ([dense(4000, 3000), dense(3000, 1400)], TOO_LARGE),  # only together
        ([dense(3, 4), dense(5, 1)], BAD_LAYER),
        ([(DENSE, 0, 0, 0, 2, 1, 3, 1, 1, 4)], BAD_LAYER),
        ([(DENSE, 3, 0, 0, 1, 1, 3, 1, 1, 4)], BAD_LAYER),
        ([(DENSE, 0, 0, 0, 1, 1, 3, 1, 2, 4)], BAD_LAYER),
        ([conv(kernel=0)], BAD_LAYER),
        ([conv(stride=0)], BAD_LAYER),
        ([conv(padding=3)], BAD_LAYER),
        ([conv(kernel=9)], BAD_LAYER),
        ([conv(out=(7, 6, 4))], BAD_LAYER),
        ([conv(out=(6, 5, 4))], BAD_LAYER),
        ([conv(stride=2)], BAD_LAYER),
        ([conv(shape=(1025, 8, 2), out=(1023, 6, 4))], TOO_LARGE),
        ([conv(shape=(65535, 65535, 2**32 - 1), out=(65533, 65533, 1))], TOO_LARGE),
        ([conv(255, 1, 254, (255, 255, 61), (509, 509, 15))], TOO_LARGE),
        ([(LAYER_CODES["max_pool2d"], 2, 2, 1, 4, 4, 1, 3, 3, 1)], BAD_LAYER),
        ([(LAYER_CODES["average_pool2d"], 2, 2, 0, 4, 4, 1, 2, 2, 2)], BAD_LAYER),
        ([(LAYER_CODES["flatten"], 0, 0, 0, 2, 2, 2, 1, 1, 7), dense(7, 1)], BAD_LAYER),
        ([(LAYER_CODES["relu"], 0, 0, 0, 1, 1, 2, 1, 1, 3), dense(3, 1)], BAD_LAYER),
        ([(LAYER_CODES["global_average_pool2d"], 0, 0, 0, 2, 2, 2, 1, 1, 1)], BAD_LAYER),
    ],
)
def test_a_table_that_cannot_be_is_refused(library, rows, status):
    assert measure(library, *rows)[0] == status


@needs_gcc
@settings(
    deadline=None,
    max_examples=300,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.binary(min_size=20, max_size=20), min_size=1, max_size=4))
@example([LAYER.pack(*dense(3, 2)), LAYER.pack(*dense(2, 1))])
def test_random_tables_are_refused_or_hold_together(library, rows):
    status, size = measure_table(library, b"".join(rows), len(rows))
    assert status in (OK, BAD_LAYER, TOO_LARGE)
    if status == OK:
        assert_describes_one_model(b"".join(rows), size)


@needs_gcc
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(list(NETWORKS.values())), st.data())
def test_a_changed_byte_is_refused_or_makes_another_whole_model(library, spec, data):
    table = bytearray(layer_table(spec))
    position = data.draw(st.integers(0, len(table) - 1))
    table[position] ^= data.draw(st.integers(1, 255))
    status, size = measure_table(library, bytes(table), len(spec.layers))
    if status == OK:
        assert_describes_one_model(bytes(table), size)


def assert_describes_one_model(table, size):
    """An accepted table is, byte for byte, that of the model it describes."""
    kinds = {code: kind for kind, code in LAYER_CODES.items()}
    rows = list(LAYER.iter_unpack(table))
    spec = bounds.ModelSpec(
        *("described", rows[0][4:7], tuple(described(kinds[row[0]], row) for row in rows)),
        "mean_squared_error",
    )
    assert layer_table(spec) == table
    assert size.parameters == spec.parameter_count


def described(kind, row):
    window = dict(zip(("kernel", "stride", "padding"), row[1:4], strict=True))
    outputs = dict.fromkeys(("units", "filters"), row[9])
    known = {field.name for field in fields(layer_bounds.LAYER_KINDS[kind])}
    assume(row[9] <= layer_bounds.MAX_CHANNELS)  # the learner's own bound is on values
    assume(row[6] <= 65535)
    return bounds.make_layer(kind, {k: v for k, v in (window | outputs).items() if k in known})


@needs_gcc
def test_an_unknown_loss_and_a_crooked_arena_are_refused(library):
    table = ctypes.create_string_buffer(layer_table(MLP))
    learner = ctypes.create_string_buffer(library.learner_struct_bytes())
    arena = np.empty(100_000, np.uint8)
    start = arena.ctypes.data

    def init(loss, address):
        return library.learner_init(learner, table, len(MLP.layers), loss, address, 90_000)

    assert init(3, start) == BAD_ARGUMENT
    assert init(0, start) == BAD_ARGUMENT
    assert init(1, start + 1) == BAD_ARGUMENT
    assert init(1, start) == OK


@needs_gcc
def test_a_model_with_an_input_beyond_the_learners_bounds_is_refused(library):
    huge = bounds.ModelSpec(
        *("huge", (1024, 1024, 8)),
        *((layer_bounds.GlobalAveragePool2D(), layer_bounds.Dense(1)), "mean_squared_error"),
    )
    with pytest.raises(InvalidInput, match="bounds"):
        NativeLearner(huge, library)


# ---- wrong arrays ----


@needs_gcc
def test_arrays_that_do_not_fit_are_refused(library, seed):
    learner = NativeLearner(MLP, library)
    samples, parameters = draw_samples(MLP, 4, seed), draw_parameters(MLP, seed)
    read_only = parameters.copy()
    read_only.flags.writeable = False
    strided = np.zeros(2 * len(parameters), np.float32)[::2]
    narrow = Samples(samples.inputs[:, :1].copy(), samples.targets)
    no_target = Samples(samples.inputs, samples.targets[:, :1].copy())
    for bad_parameters, bad_samples in (
        (parameters[:-1].copy(), samples),
        (parameters.astype(np.float64), samples),
        (read_only, samples),
        (strided, samples),
        (parameters, narrow),
        (parameters, no_target),
        (parameters, samples[:3]),
    ):
        with pytest.raises(InvalidInput):
            learner.train(bad_parameters, bad_samples, Phase(4, 0.1))
    with pytest.raises(InvalidInput):
        learner.predict(strided, samples.inputs)
    with pytest.raises(InvalidInput):
        learner.predict(parameters, samples.inputs.astype(np.float64))


@needs_gcc
def test_samples_may_be_views(library, seed):
    learner = NativeLearner(MLP, library)
    samples, parameters = draw_samples(MLP, 8, seed), draw_parameters(MLP, seed)
    views = Samples(samples.inputs[::2], samples.targets[::-2])
    copies = Samples(views.inputs.copy(), views.targets.copy())
    assert (learner.losses(parameters, views) == learner.losses(parameters, copies)).all()
    assert len(learner.predict(parameters, samples.inputs[:0])) == 0


@needs_gcc
def test_a_phase_that_no_plan_allows_is_refused_by_the_library(library, seed):
    learner, parameters = NativeLearner(MLP, library), draw_parameters(MLP, seed)
    samples = draw_samples(MLP, 2, seed)
    counts = ((0, 1, 1), (2, 0, 1), (2, 1, 0), (2, 2, 1))  # the last one lacks a gradient
    pulled = (2, 1, 1, 0.1, 0.5)  # which lacks a start
    for record in (*((*one, 0.1, 0.0) for one in counts), pulled):
        phase = native.PhaseRecord(1, *record)
        status = library.learner_train_phase(
            *(learner._learner, parameters.ctypes.data),
            *(samples.inputs.ctypes.data, samples.targets.ctypes.data),
            *(ctypes.byref(phase), None, None, ctypes.byref(native.Outcome())),
        )
        assert status == BAD_ARGUMENT


# ---- the library ----


def test_a_missing_library_is_one_line_with_the_remedy(tmp_path):
    with pytest.raises(DoesNotFit, match="make setup"):
        native.load_library(tmp_path / "none.so")


def test_a_file_that_is_no_library_is_one_line_with_the_remedy(tmp_path):
    (tmp_path / "broken.so").write_bytes(b"no library")
    with pytest.raises(DoesNotFit, match="make setup"):
        native.load_library(tmp_path / "broken.so")


@needs_gcc
def test_a_stale_library_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    path = build_file(tmp_path, "-O0")
    monkeypatch.setattr(native, "ABI_VERSION", native.ABI_VERSION + 1)
    with pytest.raises(DoesNotFit, match="make setup") as raised:
        native.load_library(path)
    assert "\n" not in str(raised.value)


def test_the_layer_table_is_20_little_endian_bytes_a_layer():
    spec = NETWORKS["conv_padded"]
    first = struct.unpack("<BBBBHHIHHI", layer_table(spec)[:20])
    assert first == (2, 3, 2, 1, 7, 6, 2, 4, 3, 9)
    assert len(layer_table(spec)) == 20 * len(spec.layers)

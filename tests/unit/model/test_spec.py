"""A model spec says where each parameter lies, and cannot describe what does not exist."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.model import ModelSpec, builtin_model, parameters_sha256
from tinyfleet.model.cost import multiply_accumulates
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
from tinyfleet.model.spec import MAX_LAYERS, make_layer

CE = "softmax_cross_entropy"
MSE = "mean_squared_error"
IMAGE = (28, 28, 1)


@pytest.mark.parametrize(
    ("name", "shape", "outputs", "loss", "parameters"),
    [
        ("mlp_32", (1, 1, 1), 1, MSE, 1_153),
        ("mlp_64", (1, 1, 1), 1, MSE, 4_353),
        ("cnn_s", IMAGE, 5, CE, 8_453),
        ("ds_cnn_s", (49, 10, 1), 4, CE, 10_500),
        ("mlp_32", (2, 3, 4), 5, CE, 2_021),
        ("cnn_m", IMAGE, 5, CE, 28_709),
        ("cnn_l", IMAGE, 5, CE, 47_997),
    ],
)
def test_builtin_models_have_the_promised_sizes(name, shape, outputs, loss, parameters):
    model = builtin_model(name, shape, outputs, loss)
    assert model.parameter_count == parameters
    assert model.parameter_bytes == 4 * parameters
    assert (model.outputs, model.loss) == (outputs, loss)


def test_an_unknown_model_is_refused_with_the_nearest_name():
    with pytest.raises(InvalidInput, match="did you mean 'mlp_64'"):
        builtin_model("mlp64", (1, 1, 1), 1, MSE)


def test_ranges_of_the_layers_cover_the_parameters_without_gaps():
    model = builtin_model("cnn_m", IMAGE, 5, CE)
    at = 0
    for placed in model.placed:
        assert placed.start == at
        assert placed.trainable == (placed.stop > placed.start)
        at = placed.stop
    assert at == model.parameter_count


def test_layers_are_named_by_kind_and_count():
    names = [placed.name for placed in builtin_model("cnn_s", IMAGE, 5, CE).placed]
    assert names[:4] == ["conv2d_1", "relu_1", "conv2d_2", "relu_2"]
    assert names[4:] == ["conv2d_3", "relu_3", "flatten_1", "dense_1"]


@pytest.mark.parametrize(
    ("layer", "shape", "output", "weights"),
    [
        (Dense(3), (1, 1, 7), (1, 1, 3), (7, 3)),
        (Conv2D(8, 3, 2, 1), IMAGE, (14, 14, 8), (3, 3, 1, 8)),
        (Conv2D(2, 5), (7, 6, 3), (3, 2, 2), (5, 5, 3, 2)),
        (DepthwiseConv2D(3, 1, 1), (5, 4, 6), (5, 4, 6), (3, 3, 6)),
        (MaxPool2D(2, 2), (5, 4, 6), (2, 2, 6), ()),
        (AveragePool2D(3, 1), (5, 4, 6), (3, 2, 6), ()),
        (GlobalAveragePool2D(), (5, 4, 6), (1, 1, 6), ()),
        (Flatten(), (5, 4, 6), (1, 1, 120), ()),
        (ReLU(), (5, 4, 6), (5, 4, 6), ()),
        (Tanh(), (5, 4, 6), (5, 4, 6), ()),
    ],
)
def test_shapes_of_layers(layer, shape, output, weights):
    assert layer.output_shape(shape) == output
    assert layer.weight_shape(shape) == weights


def test_fan_in_is_what_feeds_one_output():
    assert Dense(3).fan_in((1, 1, 7)) == 7
    assert Conv2D(8, 3).fan_in((9, 9, 4)) == 36
    assert DepthwiseConv2D(3).fan_in((9, 9, 4)) == 9
    assert ReLU().fan_in((9, 9, 4)) == 0


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ((Dense(3),), IMAGE, "flatten"),
        ((Conv2D(3, 9),), (8, 8, 1), "larger than its input"),
        ((Conv2D(3, 3, 1, 3),), (8, 8, 1), "padding 3 must be below"),
        ((ReLU(),), (1, 1, 4), "at least one layer with parameters"),
        ((), (1, 1, 4), "1 to 64 layers"),
        ((Dense(1),) * (MAX_LAYERS + 1), (1, 1, 4), "1 to 64 layers"),
        ((Dense(0),), (1, 1, 4), "units must be 1"),
        ((Dense(4097),), (1, 1, 4), "units must be 1 to 4096"),
        ((Conv2D(1, 3, 0),), (8, 8, 1), "stride must be 1"),
        ((Dense(4096), Dense(4096)), (1, 1, 4096), "16000000 are allowed"),
        ((Conv2D(4096, 1),), (1024, 1024, 1), "is over 4000000 values"),
        ((Dense(1),), (0, 1, 4), "out of range"),
        ((Dense(1),), (1, 1, 70_000), "out of range"),
    ],
)
def test_impossible_models_are_refused(layers, shape, message):
    with pytest.raises(InvalidInput, match=message):
        ModelSpec("m", shape, layers, MSE)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb"])
def test_bad_names_are_refused(name):
    with pytest.raises(InvalidInput, match="printable"):
        ModelSpec(name, (1, 1, 1), (Dense(1),), MSE)


def test_an_unknown_loss_is_refused():
    with pytest.raises(InvalidInput, match="unknown loss"):
        ModelSpec("m", (1, 1, 1), (Dense(1),), "mse")


def test_a_layer_mask_has_the_bits_of_the_named_layers():
    model = builtin_model("mlp_32", (1, 1, 1), 1, MSE)
    assert model.layer_mask(()) == 0b11111
    assert model.layer_mask(("dense_3",)) == 0b10000
    assert model.layer_mask(("dense_1", "dense_3", "dense_1")) == 0b10001
    with pytest.raises(InvalidInput, match="did you mean 'dense_3'"):
        model.layer_mask(("dense3",))


def test_parameters_of_another_shape_or_type_are_refused():
    model = builtin_model("mlp_32", (1, 1, 1), 1, MSE)
    good = np.zeros(1153, np.float32)
    assert model.check_parameters(good) is good
    for bad in (good[:-1], good.astype(np.float64), good.reshape(1, -1)):
        with pytest.raises(InvalidInput, match="1153 float32"):
            model.check_parameters(bad)


def test_the_hash_is_of_little_endian_float32():
    values = np.array([1.5, -0.0], np.float32)
    expected = hashlib.sha256(bytes.fromhex("0000c03f00000080")).hexdigest()
    assert parameters_sha256(values) == expected
    assert parameters_sha256(values.astype(">f4")) == expected


def test_make_layer_refuses_what_it_does_not_know():
    assert make_layer("conv2d", {"filters": 4, "stride": 2}) == Conv2D(4, stride=2)
    for kind, options, message in [
        ("conv3d", {}, "unknown layer kind 'conv3d': did you mean 'conv2d'"),
        ("dense", {"unit": 3}, "did you mean 'units'"),
        ("dense", {"units": 3.0}, "whole number"),
        ("dense", {"units": True}, "whole number"),
        ("dense", {}, "missing option"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            make_layer(kind, options)


def test_multiply_accumulates_are_counted_per_output_pixel():
    assert multiply_accumulates(builtin_model("mlp_32", (1, 1, 1), 1, MSE)) == 32 + 32 * 32 + 32
    small = ModelSpec("m", (4, 4, 2), (Conv2D(3, 3, 1, 1), Flatten(), Dense(2)), CE)
    assert multiply_accumulates(small) == 16 * (3 * 3 * 2 * 3) + 48 * 2


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 3), st.integers(0, 3), st.integers(1, 3)
)
def test_windows_stay_inside_the_padded_image(side, kernel, stride, padding, filters):
    layer = Conv2D(filters, kernel, stride, padding)
    try:
        height, width, channels = layer.output_shape((side, side, 1))
    except InvalidInput:
        assert kernel > side + 2 * padding or padding >= kernel
        return
    assert channels == filters
    assert height == width
    last = (height - 1) * stride + kernel
    assert last <= side + 2 * padding < last + stride

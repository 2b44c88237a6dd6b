"""An int8 `.tflite` computes with whole numbers and says nearly what the learner says."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import CROSS_ENTROPY, MSE, chosen, draw_parameters, draw_samples, networks

from tinyfleet.errors import InvalidInput
from tinyfleet.export import writer
from tinyfleet.export.check import softmax
from tinyfleet.export.quantize import activation_scale, int8_tflite, weight_scales
from tinyfleet.export.running import run_written
from tinyfleet.learner import make_learner
from tinyfleet.litert.graph import Graph
from tinyfleet.model.layers import Conv2D, Dense, DepthwiseConv2D, Flatten, ReLU

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")

SMALL = chosen(
    *("small", (8, 7, 2), CROSS_ENTROPY),
    *(Conv2D(6, 3, 2, 1), ReLU(), DepthwiseConv2D(3, 1, 1), Flatten(), Dense(4)),
)


def tensor_types(file):
    """The type of each tensor, by name."""
    schema = writer.load_schema()
    graph = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.content, 0)).subgraphs[0]
    return {tensor.name.decode(): tensor.type for tensor in graph.tensors}


def relative_error(said, expected):
    return np.sqrt(np.mean((said - expected) ** 2)) / np.std(expected)


def test_every_layer_kind_is_close_to_the_learner(trained, seed):
    spec, parameters = trained
    inputs = draw_samples(spec, 200, seed).inputs
    said = Graph(int8_tflite(spec, parameters, inputs))(inputs)
    assert relative_error(said, make_learner(spec).predict(parameters, inputs)) < 0.06


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.integers(0, 2**32 - 1), st.booleans())
def test_random_networks_run_with_whole_numbers_alone(spec, seed, float_io):
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 20, seed).inputs
    file = int8_tflite(spec, parameters, inputs, float_io=float_io)
    assert np.isfinite(run_written(file, inputs)).all()
    schema = writer.load_schema()
    floats = [n for n, t in tensor_types(file).items() if t == schema.TensorType.FLOAT32]
    assert len(floats) == (2 if float_io else 0)


@pytest.mark.parametrize("float_io", [False, True])
def test_input_and_output_are_int8_unless_float_is_asked_for(seed, float_io):
    parameters, inputs = draw_parameters(SMALL, seed), draw_samples(SMALL, 50, seed).inputs
    graph = Graph(int8_tflite(SMALL, parameters, inputs, float_io=float_io))
    types = (graph.input.dtype, graph.output.dtype)
    assert types == ((np.float32,) * 2 if float_io else (np.int8,) * 2)
    expected = make_learner(SMALL).predict(parameters, inputs)
    assert relative_error(graph(inputs), expected) < 0.06


def test_probabilities_are_close_to_the_softmax(seed):
    parameters, inputs = draw_parameters(SMALL, seed), draw_samples(SMALL, 50, seed).inputs
    said = Graph(int8_tflite(SMALL, parameters, inputs, probabilities=True))(inputs)
    expected = softmax(make_learner(SMALL).predict(parameters, inputs))
    assert np.abs(said - expected).max() < 0.05


def test_the_same_calibration_gives_the_same_bytes(seed):
    parameters, inputs = draw_parameters(SMALL, seed), draw_samples(SMALL, 50, seed).inputs
    files = {int8_tflite(SMALL, parameters, inputs).sha256 for _ in range(2)}
    assert len(files) == 1


def test_each_filter_has_a_scale_of_its_own(seed):
    """One filter is a thousand times smaller than the others, and loses nothing by it."""
    spec = chosen("filters", (6, 6, 1), MSE, Conv2D(3, 3), Flatten(), Dense(2))
    parameters = draw_parameters(spec, seed)
    conv = parameters[: spec.placed[0].weights].reshape(9, 3)
    conv[:, 0] *= 1e-3
    file = int8_tflite(spec, parameters, draw_samples(spec, 50, seed).inputs)
    schema = writer.load_schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(file.content, 0))
    (weights,) = (t for t in model.subgraphs[0].tensors if t.name == b"conv2d_1/weights")
    whole = model.buffers[weights.buffer].data.view(np.int8).reshape(3, 3, 3, 1)
    assert (np.abs(whole).max(axis=(1, 2, 3)) == 127).all()
    given_back = whole[..., 0].transpose(1, 2, 0).reshape(9, 3) * weights.quantization.scale
    assert (np.abs(given_back - conv) <= 0.51 * weights.quantization.scale).all()


def test_a_filter_of_zeros_keeps_its_bias(seed):
    spec = chosen("dead", (4, 4, 1), MSE, Conv2D(2, 3), Flatten(), Dense(2))
    parameters = draw_parameters(spec, seed)
    parameters[: spec.placed[0].weights] = 0.0
    inputs = draw_samples(spec, 10, seed).inputs
    said = Graph(int8_tflite(spec, parameters, inputs))(inputs)
    expected = make_learner(spec).predict(parameters, inputs)
    np.testing.assert_allclose(said, expected, rtol=0.03, atol=0.03)


def test_a_model_that_is_always_zero_can_be_exported(seed):
    parameters = np.zeros(SMALL.parameter_count, np.float32)
    said = Graph(int8_tflite(SMALL, parameters, np.zeros((3, SMALL.inputs), np.float32)))
    assert (said(draw_samples(SMALL, 4, seed).inputs) == 0.0).all()


@given(st.floats(-1e6, 1e6, width=32), st.floats(-1e6, 1e6, width=32))
def test_zero_is_exact_and_the_range_is_covered(one, other):
    low, high = sorted((one, other))
    scale = activation_scale(low, high)
    assert -128 <= scale.zero_point <= 127
    assert scale.scale * (-128 - scale.zero_point) <= low + scale.scale
    assert scale.scale * (127 - scale.zero_point) >= high - scale.scale


@given(st.floats(0, 1e3, width=32), st.floats(0, 1e6, width=32), st.floats(2**-20, 1e3, width=32))
def test_weights_and_biases_fit_their_types(weight, bias, input_scale):
    weights, biases = np.full((2, 3), weight, np.float32), np.full(2, bias, np.float32)
    for axis in (None, 0):
        scales = weight_scales(weights, biases, input_scale, axis).astype(np.float64)
        assert (weight / scales <= 127.001).all()
        assert (bias / (scales * input_scale) <= 2**30 * 1.001).all()


def test_calibration_of_nothing_or_of_other_samples_is_refused(seed):
    parameters = draw_parameters(SMALL, seed)
    with pytest.raises(InvalidInput, match="at least one sample"):
        int8_tflite(SMALL, parameters, np.zeros((0, SMALL.inputs), np.float32))
    with pytest.raises(InvalidInput, match="takes"):
        int8_tflite(SMALL, parameters, np.zeros((2, 3), np.float32))
    with pytest.raises(InvalidInput, match="finite"):
        int8_tflite(SMALL, parameters, np.full((2, SMALL.inputs), np.inf, np.float32))

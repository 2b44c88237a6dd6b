"""A float32 `.tflite` says what the learner says, whatever the layers."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import draw_parameters, draw_samples, networks

from tinyfleet.errors import InvalidInput
from tinyfleet.export import writer
from tinyfleet.export.check import Disagrees, check_same, softmax
from tinyfleet.export.layers import needed_padding, same_is_ours
from tinyfleet.export.running import run_written
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import make_learner
from tinyfleet.litert.graph import Graph
from tinyfleet.model import BUILTIN_MODELS, builtin_model, initial_parameters, parameters_sha256
from tinyfleet.model.layers import Conv2D

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")

GOLDEN = {  # SHA-256 of the files of initialization 1, by model
    "mlp_32": "efa1503df07f517c46b905aecb0de0bb2258de7bec46d3874bd8e32335cb9ec1",
    "cnn_s": "5c0b79c4ff33887ddadf08b9400741a5f5ee1cde6c1cca5904a94eb5f120a7e7",
    "ds_cnn_s": "c91de43bbd215729233dca86e29bc8ab4f81ec215a10c8752818a7827a74cc43",
}


def learned(spec, parameters, inputs):
    return make_learner(spec).predict(parameters, inputs)


def test_every_layer_kind_says_what_the_learner_says(trained, seed):
    spec, parameters = trained
    inputs = draw_samples(spec, 20, seed).inputs
    said = Graph(float_tflite(spec, parameters))(inputs)
    check_same(said, learned(spec, parameters, inputs))


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(networks(), st.integers(0, 2**32 - 1))
def test_random_networks_say_what_the_learner_says(spec, seed):
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 5, seed).inputs
    said = run_written(float_tflite(spec, parameters), inputs)
    check_same(said, learned(spec, parameters, inputs))


@pytest.mark.parametrize("shape", [(28, 28, 1), (49, 10, 1), (1, 1, 9)])
@pytest.mark.parametrize("name", BUILTIN_MODELS)
def test_every_built_in_model_says_what_the_learner_says(name, shape, seed):
    spec = builtin_model(name, shape, 5, "softmax_cross_entropy")
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 20, seed).inputs
    said = run_written(float_tflite(spec, parameters), inputs)
    check_same(said, learned(spec, parameters, inputs))


@pytest.mark.parametrize("name", GOLDEN)
def test_the_bytes_of_a_model_are_always_the_same(name):
    spec = builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy")
    file = float_tflite(spec, initial_parameters(spec, 1))
    assert file.sha256 == GOLDEN[name]


def test_probabilities_are_the_softmax_of_the_logits(seed):
    spec = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")
    parameters, inputs = draw_parameters(spec, seed), draw_samples(spec, 20, seed).inputs
    said = Graph(float_tflite(spec, parameters, probabilities=True))(inputs)
    check_same(said, softmax(learned(spec, parameters, inputs)))
    np.testing.assert_allclose(said.sum(axis=1), 1.0, rtol=1e-6)


def test_a_regression_has_no_probabilities():
    spec = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    with pytest.raises(InvalidInput, match="no classifier"):
        float_tflite(spec, initial_parameters(spec, 1), probabilities=True)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_parameters_of_a_diverged_training_are_refused(value):
    spec = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    parameters = initial_parameters(spec, 1)
    parameters[7] = value
    with pytest.raises(InvalidInput, match="not all finite"):
        float_tflite(spec, parameters)


def test_the_signature_names_input_and_output_in_the_documented_shapes():
    from ai_edge_litert.interpreter import Interpreter

    spec = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")
    file = float_tflite(spec, initial_parameters(spec, 1))
    run = Interpreter(model_content=file.content).get_signature_runner("serving_default")
    assert list(run.get_input_details()["input"]["shape"]) == [1, 28, 28, 1]
    assert list(run.get_output_details()["output"]["shape"]) == [1, 5]
    assert run(input=np.zeros((1, 28, 28, 1), np.float32))["output"].shape == (1, 5)


def test_a_file_says_which_model_it_is():
    schema = writer.load_schema()
    spec = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    parameters = initial_parameters(spec, 1)
    model = schema.ModelT.InitFromObj(
        schema.Model.GetRootAs(float_tflite(spec, parameters).content, 0)
    )
    sha256 = parameters_sha256(parameters)
    assert model.description == f"mlp_32, parameters {sha256}".encode()
    (entry,) = model.metadata
    facts = json.loads(bytes(model.buffers[entry.buffer].data))
    assert facts == {"model": "mlp_32", "parameters_sha256": sha256, "probabilities": False}


def test_constants_lie_where_a_microcontroller_can_read_floats():
    schema = writer.load_schema()
    spec = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")
    content = float_tflite(spec, initial_parameters(spec, 1)).content
    model = schema.Model.GetRootAs(content, 0)
    arrays = [model.Buffers(i).DataAsNumpy() for i in range(model.BuffersLength())]
    start = np.frombuffer(content, np.uint8).__array_interface__["data"][0]
    places = [a.__array_interface__["data"][0] - start for a in arrays if not isinstance(a, int)]
    assert len(places) > 8
    assert all(place % 16 == 0 for place in places)


def test_a_missing_schema_is_one_line_with_the_remedy(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(writer.importlib, "import_module", missing)
    spec = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    with pytest.raises(InvalidInput, match=r"pip install 'tinyfleet\[litert\]'"):
        float_tflite(spec, initial_parameters(spec, 1))


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 4), st.data())
def test_same_padding_is_used_only_where_each_output_sees_the_same_taps(side, kernel, stride, data):
    """Taps of output o by LiteRT's rule and by ours, on a line of `side` values."""
    padding = data.draw(st.integers(0, kernel - 1))
    if side + 2 * padding < kernel:
        return
    outputs = (side + 2 * padding - kernel) // stride + 1
    layer = Conv2D(1, kernel, stride, padding)
    same = -(-side // stride)
    before = max((same - 1) * stride + kernel - side, 0) // 2
    equal = same == outputs and before == padding
    assert same_is_ours(layer, side, outputs) == equal
    first, last = needed_padding(layer, side, outputs)
    assert (first + side + last - kernel) // stride + 1 >= outputs
    assert first == padding
    assert last <= padding


def test_what_differs_or_is_no_number_is_not_kept():
    expected = np.array([[1.0, 2.0]], np.float32)
    assert check_same(expected + np.float32(1e-5), expected) > 0
    for wrong in (1e-4, np.nan, np.inf):
        with pytest.raises(Disagrees, match="nothing was written"):
            check_same(expected + np.float32(wrong), expected)


def test_names_that_people_give_models_do_no_harm(seed):
    plain = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    spec = replace(plain, name='*/ "\\ é 模型')
    parameters = draw_parameters(spec, seed)
    inputs = draw_samples(spec, 3, seed).inputs
    check_same(
        run_written(float_tflite(spec, parameters), inputs), learned(spec, parameters, inputs)
    )

"""An extractor and a head in one `.tflite` say what the two say one after the other."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from networks import CROSS_ENTROPY, chosen, draw_parameters, draw_samples

from tinyfleet.errors import InvalidInput
from tinyfleet.export.check import check_same, softmax
from tinyfleet.export.merging import append_head, append_int8_head
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.running import run_written
from tinyfleet.export.tflite import float_tflite
from tinyfleet.export.writer import load_schema
from tinyfleet.learner import make_learner
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model.layers import Conv2D, Dense, GlobalAveragePool2D, ReLU, Tanh

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")

BODY = chosen(
    *("body", (8, 8, 1), CROSS_ENTROPY),
    *(Conv2D(12, 3, 2, 1), ReLU(), Conv2D(12, 3), GlobalAveragePool2D(), ReLU()),
)
HEADS = {
    "dense": chosen("dense", (1, 1, 12), CROSS_ENTROPY, Dense(5)),
    "mlp": chosen("mlp", (1, 1, 12), CROSS_ENTROPY, Dense(9), Tanh(), Dense(5)),
    "relu_first": chosen("relu_first", (1, 1, 12), CROSS_ENTROPY, ReLU(), Dense(5)),
}


@pytest.fixture(params=["float32", "int8", "int8 behind floats"])
def extractor(request, seed):
    parameters, inputs = draw_parameters(BODY, seed), draw_samples(BODY, 50, seed).inputs
    if request.param == "float32":
        return float_tflite(BODY, parameters)
    return int8_tflite(BODY, parameters, inputs, float_io=request.param != "int8")


@pytest.fixture(params=HEADS.values(), ids=HEADS)
def head(request):
    return request.param


def one_after_the_other(extractor, head, parameters, inputs):
    return make_learner(head).predict(parameters, Graph(extractor)(inputs))


def test_a_float_head_says_what_the_learner_says_of_the_features(extractor, head, seed):
    parameters, inputs = draw_parameters(head, seed), draw_samples(BODY, 20, seed).inputs
    said = Graph(append_head(extractor, head, parameters))(inputs)
    check_same(said, one_after_the_other(extractor, head, parameters, inputs))


def test_an_int8_head_is_close_to_it(extractor, head, seed):
    parameters, inputs = draw_parameters(head, seed), draw_samples(BODY, 100, seed).inputs
    graph = Graph(append_int8_head(extractor, head, parameters, inputs))
    expected = one_after_the_other(extractor, head, parameters, inputs)
    error = np.sqrt(np.mean((graph(inputs) - expected) ** 2)) / np.std(expected)
    assert error < 0.06
    assert graph.output.dtype is graph.input.dtype is Graph(extractor).input.dtype


def test_probabilities_come_last(extractor, head, seed):
    parameters, inputs = draw_parameters(head, seed), draw_samples(BODY, 20, seed).inputs
    said = run_written(append_head(extractor, head, parameters, probabilities=True), inputs)
    expected = softmax(one_after_the_other(extractor, head, parameters, inputs))
    check_same(said, expected)


def test_features_of_an_image_are_taken_in_storage_order(seed):
    body = chosen("image", (6, 6, 1), CROSS_ENTROPY, Conv2D(3, 3, 2, 1))
    flat = float_tflite(body, draw_parameters(body, seed))
    schema = load_schema()
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flat.content, 0))
    graph = model.subgraphs[0]
    graph.outputs = [graph.operators[-1].inputs[0]]  # the image in front of the last reshape
    graph.operators.pop()
    builder = __import__("flatbuffers").Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    image = TfliteFile(bytes(builder.Output()))
    assert len(Graph(image).output.shape) == 3
    head = chosen("head", (1, 1, 27), CROSS_ENTROPY, Dense(4))
    parameters, inputs = draw_parameters(head, seed), draw_samples(body, 5, seed).inputs
    said = run_written(append_head(image, head, parameters), inputs)
    check_same(said, one_after_the_other(image, head, parameters, inputs))


def test_a_file_can_be_continued_twice(seed):
    """What is written here is itself an extractor."""
    first = float_tflite(BODY, draw_parameters(BODY, seed))
    head, second = HEADS["mlp"], chosen("last", (1, 1, 5), CROSS_ENTROPY, Tanh(), Dense(2))
    inputs = draw_samples(BODY, 5, seed).inputs
    both = append_head(first, head, draw_parameters(head, seed))
    parameters = draw_parameters(second, seed)
    said = run_written(append_head(both, second, parameters), inputs)
    check_same(said, one_after_the_other(both, second, parameters, inputs))


def test_a_head_for_other_features_is_refused(extractor):
    head = chosen("other", (1, 1, 7), CROSS_ENTROPY, Dense(2))
    with pytest.raises(InvalidInput, match="12 features, model 'other' takes 7"):
        append_head(extractor, head, draw_parameters(head, 1))


@given(st.data())
def test_a_damaged_extractor_is_refused_or_continued_but_nothing_else(data):
    content = bytearray(float_tflite(BODY, draw_parameters(BODY, 1)).content)
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(8, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    head = HEADS["dense"]
    with contextlib.suppress(InvalidInput):
        append_head(TfliteFile(bytes(content)), head, draw_parameters(head, 1))


@given(st.binary(max_size=200))
def test_no_bytes_at_all_do_worse_than_be_refused(rest):
    head = HEADS["dense"]
    with pytest.raises(InvalidInput):
        append_head(TfliteFile(b"\x10\0\0\0TFL3" + rest), head, draw_parameters(head, 1))

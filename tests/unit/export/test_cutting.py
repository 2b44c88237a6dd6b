"""A .tflite is cut at a tensor: the same values, nothing that comes after, one output."""

import json

import numpy as np
import pytest
from networks import draw_parameters, draw_samples

from tinyfleet.cli.program import run
from tinyfleet.errors import InvalidInput
from tinyfleet.export.cutting import cut, tensors_made
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import make_learner
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model import ModelSpec, builtin_model
from tinyfleet.model.layers import Flatten

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")

SPEC = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")
BODY = ModelSpec("body", SPEC.input_shape, (*SPEC.layers[:-2], Flatten()), SPEC.loss)


@pytest.fixture
def parameters(seed):
    return draw_parameters(SPEC, seed)


@pytest.fixture
def classifier(parameters):
    return float_tflite(SPEC, parameters, probabilities=True)


def test_the_cut_says_what_the_layers_before_it_say(classifier, parameters, seed):
    inputs = draw_samples(SPEC, 10, seed).inputs
    features = cut(classifier, "relu_3")
    expected = make_learner(BODY).predict(parameters[: BODY.parameter_count], inputs)
    np.testing.assert_allclose(Graph(features)(inputs), expected, rtol=1e-5, atol=1e-5)
    assert len(features.content) < len(classifier.content) - 4 * (512 * 5)


def test_an_int8_file_is_cut_to_the_same_values(parameters, seed):
    inputs = draw_samples(SPEC, 50, seed).inputs
    whole = int8_tflite(SPEC, parameters, inputs)
    last = tensors_made(whole)[-1].name
    np.testing.assert_array_equal(Graph(cut(whole, last))(inputs), Graph(whole)(inputs))
    assert Graph(cut(whole, "relu_2")).output.dtype is np.int8


def test_all_tensors_are_listed_and_can_be_cut_at(classifier, seed):
    inputs = draw_samples(SPEC, 2, seed).inputs
    made = tensors_made(classifier)
    assert [one.operator for one in made[:2]] == ["PAD", "CONV_2D"]
    assert made[-1].operator == "SOFTMAX"
    for one in made:
        graph = Graph(cut(classifier, one.name))
        assert graph.output.shape == one.shape[1:]
        assert np.isfinite(graph(inputs)).all()


def test_an_unknown_tensor_is_refused_with_a_suggestion(classifier):
    with pytest.raises(InvalidInput, match="did you mean 'relu_3'"):
        cut(classifier, "relu_33")


def test_a_damaged_file_is_refused(classifier):
    with pytest.raises(InvalidInput):
        tensors_made(TfliteFile(classifier.content[:-300]))


def test_a_tensor_can_be_named_by_its_number(classifier):
    made = [one.name for one in tensors_made(classifier)]
    assert cut(classifier, "2").content == cut(classifier, made[1]).content
    for number in ("0", str(len(made) + 1), "9" * 30):
        with pytest.raises(InvalidInput, match=f"tensors have numbers from 1 to {len(made)}"):
            cut(classifier, number)


def test_the_commands_list_and_cut(capsys, classifier, tmp_path):
    whole, part = tmp_path / "whole.tflite", tmp_path / "part.tflite"
    whole.write_bytes(classifier.content)
    assert run(["tflite", "show", str(whole)]) == 0
    assert "relu_3" in capsys.readouterr().out
    assert run(["tflite", "show", str(whole), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["tensors"]) == len(tensors_made(classifier))
    words = ["tflite", "cut", str(whole), "--at", "relu_3", "--out", str(part)]
    assert run([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["features"], said["bytes"]) == (4 * 4 * 32, part.stat().st_size)
    assert run([*words[:4], "nothing", *words[5:]]) == 2
    assert "unknown tensor" in capsys.readouterr().err

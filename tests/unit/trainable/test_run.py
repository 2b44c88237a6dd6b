"""A run says which file computes its model, on the wire and in a checkpoint as in memory."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.trainers.mcu import McuTrainer
from edge_agents.trainers.thread import WorkThread
from tinyfleet.checkpoint import Checkpoint, decode, encode, run_from_document, run_to_document
from tinyfleet.errors import InvalidInput
from tinyfleet.model import ModelSpec
from tinyfleet.model.document import load_model, model_from_document, model_to_document
from tinyfleet.model.layers import Dense, Tensor
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.model.trainable import SignatureNames, TrainableGraph, trainable_from_document
from tinyfleet.run import RunSpec, make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import model_pb2
from tinyfleet.wire import run_from_message, run_to_message

WEIGHTS = np.arange(5, dtype=np.float32)
MODEL = ModelSpec("file", (1, 1, 1), (Tensor(2, 1), Tensor(3, 1)), "mean_squared_error")
GRAPH = TrainableGraph(
    "ab" * 32, 1234, parameters_sha256(WEIGHTS), ("bias", "kernel"), SignatureNames(train="fit")
)
SINE = make_task("sine", {})


@pytest.fixture
def run() -> RunSpec:
    return make_run(SINE, "tiny_reptile", 10, 1, MODEL, trainable=GRAPH)


def test_tensors_are_layers_without_biases():
    assert MODEL.parameter_count == 5
    assert MODEL.trainable_layers == ("tensor_1", "tensor_2")
    assert (MODEL.placed[1].start, MODEL.placed[1].stop, MODEL.outputs) == (2, 5, 1)
    assert model_from_document(model_to_document(MODEL)) == MODEL


@pytest.mark.parametrize("layers", [(Tensor(2, 1), Dense(1)), (Tensor(2, 1), Tensor(2, 3))])
def test_a_model_is_all_of_tensors_of_one_network_or_of_none(layers):
    with pytest.raises(InvalidInput, match="all layers of a model are tensors"):
        ModelSpec("odd", (1, 1, 1), layers, "mean_squared_error")


def test_a_run_of_tensors_needs_the_file_that_computes_them():
    with pytest.raises(InvalidInput, match="needs the file that computes it"):
        make_run(SINE, "tiny_reptile", 10, 1, MODEL)
    with pytest.raises(InvalidInput, match="2 layers of kind tensor, one for each weight"):
        make_run(SINE, "tiny_reptile", 10, 1, "mlp_32", trainable=GRAPH)


def test_a_file_of_our_own_layers_has_no_tensors(tmp_path):
    path = tmp_path / "model.toml"
    layer = '{ kind = "tensor", values = 5, outputs = 1 }'
    path.write_text(
        f'name = "m"\ninput_shape = [1]\nloss = "mean_squared_error"\nlayers = [{layer}]\n'
    )
    with pytest.raises(InvalidInput, match="give that, with --trainable"):
        load_model(path)


def test_a_board_refuses_it_before_anything_is_sent():
    with pytest.raises(InvalidInput, match="cannot run on a board"):
        McuTrainer(None, MODEL, WorkThread())


def test_version_0_is_what_the_file_begins_with_and_nothing_else(run):
    assert run.initial_parameters(WEIGHTS).tobytes() == WEIGHTS.tobytes()
    with pytest.raises(InvalidInput, match="begins with the weights in its file"):
        run.initial_parameters()
    with pytest.raises(InvalidInput, match="not the weights that the run's"):
        run.initial_parameters(WEIGHTS + 1)
    with pytest.raises(InvalidInput, match="takes 5 float32 parameters"):
        run.initial_parameters(WEIGHTS[:4])


def test_a_run_is_the_same_after_a_journey(run):
    message = model_pb2.RunSpec.FromString(run_to_message(run).SerializeToString())
    assert run_from_message(message) == run
    assert run_from_document(json.loads(json.dumps(run_to_document(run)))) == run
    assert decode(encode(Checkpoint(run, "r", 3, WEIGHTS))).run == run


def test_runs_of_other_models_are_written_as_before():
    other = make_run(SINE, "tiny_reptile", 10, 1, "mlp_32")
    assert "trainable" not in run_to_document(other)
    assert not run_to_message(other).HasField("trainable")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "AB" * 32}, "a file's sha256 must be 64"),
        ({"initial_sha256": ""}, "a file's sha256 must be 64"),
        ({"size": 0}, "a file has 1 to 67108864 bytes"),
        ({"weights": ("kernel", "bias")}, "must be in order, each once"),
        ({"weights": ("bias", "bias")}, "must be in order, each once"),
        ({"weights": ()}, "1 to 64 weight tensors"),
        ({"weights": ("bias", "\n")}, "1 to 128 printable characters"),
    ],
)
def test_a_file_that_cannot_be_is_refused(change: dict[str, Any], reason: str):
    with pytest.raises(InvalidInput, match=reason):
        dataclasses.replace(GRAPH, **change)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"trian": "fit"}, "did you mean 'train'"),
        ({"train": ""}, "the name of train must have 1 to 128"),
        ({"own_rate": 11}, "own_rate must be 0 to 10"),
        ({"own_rate": "fast"}, "own_rate must be a number"),
        ({"x": 3}, "the name of x must have"),
    ],
)
def test_names_that_cannot_be_are_refused(options: dict[str, Any], reason: str):
    with pytest.raises(InvalidInput, match=reason):
        SignatureNames.of(options)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.fixed_dictionaries(dict.fromkeys(vars(GRAPH), JSON)) | JSON)
def test_no_document_does_worse_than_be_refused(document: Any):
    with pytest.raises(InvalidInput) as refused:
        trainable_from_document(document)
    assert "\n" not in str(refused.value)

"""Every learner reproduces the golden vectors, bit for bit; the vectors keep their schema."""

import copy
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from builds import needs_gcc
from vector_schema import problems

from tinyfleet.learner.layer_table import LAYER_CODES
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.model import model_from_document, parameters_sha256
from tinyfleet.strategies.plan import Phase

FOLDER = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((FOLDER / "learner.json").read_text("utf-8"))
SCHEMA = json.loads((FOLDER / DOCUMENT["schema"]).read_text("utf-8"))
VECTORS = {vector["id"]: vector for vector in DOCUMENT["vectors"]}


def floats(texts):
    return np.array([float.fromhex(text) for text in texts], np.float32)


def same_bits(array, expected):
    return bool((array.view(np.uint32) == expected.view(np.uint32)).all())


def assert_reproduces(make, vector):
    given, expected = vector["input"], vector["expected"]
    spec, parameters = model_from_document(given["model"]), floats(given["parameters"])
    samples = Samples(*(np.stack([floats(row) for row in given[k]]) for k in ("inputs", "targets")))
    phase = given["phase"]
    rates = {name: float.fromhex(phase[name]) for name in ("rate", "proximal") if name in phase}
    phase = Phase(**{**phase, **rates, "trainable": tuple(phase["trainable"])})
    start = floats(given["start"]) if phase.proximal else None
    learner = make(spec)
    if expected["finite"]:
        outputs = np.stack([floats(row) for row in expected["outputs_before"]])
        assert same_bits(learner.predict(parameters, samples.inputs), outputs)
        assert same_bits(learner.losses(parameters, samples), floats(expected["losses_before"]))
    done = learner.train(parameters, samples, phase, start)
    assert done.finite == expected["finite"]
    if done.finite:
        assert same_bits(parameters, floats(expected["parameters"]))
        assert parameters_sha256(parameters) == expected["parameters_sha256"]
        assert done.updates == expected["updates"]
        assert done.loss == float.fromhex(expected["loss"])


@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_the_numpy_reference_reproduces_it(vector):
    assert_reproduces(ReferenceLearner, vector)


@needs_gcc
@pytest.mark.parametrize("vector", VECTORS.values(), ids=VECTORS)
def test_the_c_learner_reproduces_it(library, vector):
    assert_reproduces(lambda spec: NativeLearner(spec, library), vector)


def test_the_file_keeps_its_schema():
    assert not list(problems(DOCUMENT, SCHEMA, SCHEMA))
    assert len(VECTORS) == len(DOCUMENT["vectors"])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda vector: vector.pop("comment"),
        lambda vector: vector.update(extra=1),
        lambda vector: vector["flags"].append("unknown"),
        lambda vector: vector["input"]["parameters"].append("0.5"),
        lambda vector: vector["expected"].update(updates=0),
        lambda vector: vector.update(expected={"finite": True}),
        lambda vector: vector.update(seed="1"),
    ],
)
def test_a_spoilt_file_breaks_the_schema(spoil):
    document = copy.deepcopy(DOCUMENT)
    spoil(document["vectors"][0])
    assert list(problems(document, SCHEMA, SCHEMA))


def test_the_vectors_cover_every_layer_kind_and_both_losses():
    models = [vector["input"]["model"] for vector in VECTORS.values()]
    assert {layer["kind"] for model in models for layer in model["layers"]} == set(LAYER_CODES)
    assert len({model["loss"] for model in models}) == 2


def test_the_generator_writes_the_file_that_is_there(tmp_path, monkeypatch):
    where = importlib.util.spec_from_file_location("make", FOLDER / "make_learner_vectors.py")
    make = importlib.util.module_from_spec(where)
    where.loader.exec_module(make)
    monkeypatch.setattr(make, "OUTPUT", tmp_path / "learner.json")
    make.main()
    written = json.loads((tmp_path / "learner.json").read_text("utf-8"))
    assert written == DOCUMENT

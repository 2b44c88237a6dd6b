"""What stands in front of a model is the file that the run names, and the model learns from it."""

import dataclasses

import numpy as np
import pytest
from tflite_files import FLOAT32, INT8, dense_file

from tinyfleet.checkpoint import Checkpoint, decode, encode, run_from_document, run_to_document
from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import EvaluationSettings, evaluate
from tinyfleet.learner import make_learner
from tinyfleet.litert.extractor import FeatureTask, extractor_of, features_of, open_extractor
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model.extractor import Extractor
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import check_fits, make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import model_pb2
from tinyfleet.wire import run_from_message, run_to_message

SINE = make_task("sine", {})
FILE = TfliteFile(dense_file(inputs=1, outputs=8))
EXTRACTOR = Extractor(FILE.sha256, len(FILE.content), (1, 1, 1), 8)


def a_run(**changes):
    about = {"strategy": "tiny_reptile", "rounds": 6, "seed": 3, "extractor": EXTRACTOR}
    return make_run(SINE, **(about | changes))


def test_an_extractor_is_known_by_its_file():
    assert extractor_of(FILE, Graph(FILE), SINE.input_shape) == EXTRACTOR
    assert open_extractor(FILE, EXTRACTOR).output.values == 8


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "0" * 64}, "not the run's extractor"),
        ({"size": 7}, "8 features from 7 bytes"),
        ({"features": 9}, "gives 9 features"),
        ({"input_shape": (1, 1, 2)}, "takes samples of 1, the task gives 1x1x2"),
    ],
)
def test_another_file_than_the_run_s_is_refused(change, words):
    with pytest.raises(InvalidInput, match=words):
        open_extractor(FILE, dataclasses.replace(EXTRACTOR, **change))


@pytest.mark.parametrize(
    ("takes", "task", "fits"),
    [
        ((1, 2, 3), (2, 3, 1), True),
        ((1, 2, 3, 1), (2, 3, 1), True),
        ((1, 6), (2, 3, 1), True),
        ((1, 6), (1, 1, 6), True),
        ((1, 1, 1, 6), (1, 6, 1), True),
        ((1, 3, 2), (2, 3, 1), False),
        ((1, 2, 3, 2), (2, 3, 1), False),
        ((1, 7), (2, 3, 1), False),
    ],
)
def test_sides_of_one_do_not_count_and_a_vector_takes_any_shape(takes, task, fits):
    file = TfliteFile(dense_file(inputs=int(np.prod(takes[1:])), shape=takes))
    if fits:
        assert extractor_of(file, Graph(file), task).input_shape == task
    else:
        with pytest.raises(InvalidInput, match=r"this .tflite takes samples of"):
            extractor_of(file, Graph(file), task)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sha256": "A" * 64}, "64 digits"),
        ({"sha256": ""}, "64 digits"),
        ({"size": 0}, "1 to 67108864 bytes, not 0"),
        ({"size": 2**26 + 1}, "1 to 67108864 bytes, not 67108865"),
        ({"input_shape": (0, 1, 1)}, "out of range"),
        ({"input_shape": (1, 1, 65_536)}, "out of range"),
        ({"features": 0}, "1 to 65535 features"),
        ({"features": 65_536}, "1 to 65535 features"),
    ],
)
def test_an_extractor_out_of_range_cannot_be(change, words):
    with pytest.raises(InvalidInput, match=words):
        dataclasses.replace(EXTRACTOR, **change)


def test_the_model_behind_it_is_a_dense_layer_unless_another_is_named():
    assert a_run().model.layers == (Dense(1),)
    assert a_run(model="mlp_32").model.input_shape == (1, 1, 8)


def test_a_model_that_does_not_take_its_features_is_refused():
    model = ModelSpec("two", (1, 1, 2), (Dense(1),), "mean_squared_error")
    with pytest.raises(InvalidInput, match="does not take the extractor's 8 features"):
        a_run(model=model)


def test_it_must_take_the_samples_of_the_task():
    other = dataclasses.replace(EXTRACTOR, input_shape=(1, 1, 2))
    with pytest.raises(InvalidInput, match=r"behind its extractor has input 1x1x2.*needs input"):
        check_fits(SINE, dataclasses.replace(a_run(), extractor=other))


def test_a_run_with_one_travels_and_is_kept_whole():
    run = a_run()
    message = model_pb2.RunSpec.FromString(run_to_message(run).SerializeToString())
    assert run_from_message(message) == run
    assert run_from_document(run_to_document(run)) == run
    parameters = run.initial_parameters()
    assert decode(encode(Checkpoint(run, "a", 2, parameters))).run == run


def test_on_the_wire_it_is_the_first_layer_so_that_nobody_takes_raw_samples_for_features():
    message = run_to_message(a_run()).model
    assert message.input_channels == 1
    assert [layer.WhichOneof("kind") for layer in message.layers] == ["extractor", "dense"]


def test_it_is_nowhere_but_in_front():
    message = run_to_message(a_run())
    message.model.layers.add().CopyFrom(message.model.layers[0])
    with pytest.raises(InvalidInput, match="unknown layer kind 'extractor'"):
        run_from_message(message)
    del message.model.layers[1:]
    with pytest.raises(InvalidInput, match="1 to 64 layers"):
        run_from_message(message)


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": 7},
        {"size": 1.5},
        {"size": True},
        {"features": "8"},
        {"input_shape": [1, 1]},
        {"input_shape": [1, 1, None]},
        {"input_shape": "111"},
        {"more": 1},
    ],
)
def test_a_document_that_is_no_extractor_is_refused(change):
    document = run_to_document(a_run())
    document["extractor"] |= change
    with pytest.raises(InvalidInput):
        run_from_document(document)


def test_a_document_whose_extractor_is_nothing_is_refused():
    with pytest.raises(InvalidInput, match="exactly the keys"):
        run_from_document(run_to_document(a_run()) | {"extractor": None})


def test_the_model_learns_from_the_features_of_the_samples_that_the_slot_has():
    task, graph = FeatureTask(SINE, Graph(FILE)), Graph(FILE)
    seen, raw = training_samples(task, 3, 1, 0, 9), training_samples(SINE, 3, 1, 0, 9)
    assert np.array_equal(seen.inputs, graph(raw.inputs))
    assert np.array_equal(seen.targets, raw.targets)


def test_it_is_tested_on_the_features_of_the_problems_that_are_unseen():
    task = FeatureTask(SINE, Graph(FILE))
    problem = task.evaluation_problem(RandomStream(1, Purpose.EVALUATION_TASK), 3, 4)
    assert problem.support.inputs.shape == (3, 8)
    raw = SINE.evaluation_problem(RandomStream(1, Purpose.EVALUATION_TASK), 3, 4)
    assert np.array_equal(problem.query.inputs, features_of(Graph(FILE), raw.query).inputs)


@pytest.fixture
def table(tmp_path):
    """Three-way problems of fifteen classes, each around a point of its own."""
    stream = np.random.default_rng(seed=1)
    labels = np.repeat(np.arange(15), 6)
    inputs = stream.uniform(-2, 2, (15, 4))[labels] + stream.normal(0, 0.1, (90, 4))
    np.savez(tmp_path / "a.npz", inputs=inputs, labels=labels)
    return make_task("table", {"ways": 3}, tmp_path / "a.npz")


def test_a_task_behind_an_extractor_keeps_what_else_it_is(table):
    task = FeatureTask(table, Graph(TfliteFile(dense_file(inputs=4, outputs=8))))
    assert task.input_shape == (1, 1, 8)
    for name in ("name", "options", "outputs", "loss", "recommended", "test_samples"):
        assert getattr(task, name) == getattr(table, name)
    classes = task.training_classes
    assert classes.count == table.training_classes.count
    assert classes.draw(RandomStream(1, Purpose.TRAINING_TASK), 5).inputs.shape == (5, 8)
    assert FeatureTask(SINE, Graph(FILE)).training_classes is None


@pytest.mark.parametrize("kind", [FLOAT32, INT8])
def test_a_head_learns_behind_it(table, kind):
    file = TfliteFile(dense_file(inputs=4, outputs=32, kind=kind))
    task = FeatureTask(table, Graph(file))
    extractor = extractor_of(file, Graph(file), table.input_shape)
    run = make_run(table, "tiny_reptile", 20, 3, extractor=extractor)
    learner = make_learner(run.model)
    trained = simulate(run, task, learner).parameters
    settings = EvaluationSettings.for_task(task, tasks=50, shots=2, queries=2, passes=10, rate=0.1)
    tested = evaluate(learner, trained, task, settings)
    assert tested.before.accuracy < 0.5 < 0.8 < tested.after.accuracy

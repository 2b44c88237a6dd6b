"""Each format is checked before it counts, also of a model behind an extractor."""

import io

import numpy as np
import pytest
from networks import CROSS_ENTROPY, MSE, NETWORKS, chosen, draw_parameters, draw_samples

from tinyfleet.errors import Diverged, InvalidInput
from tinyfleet.export.check import Disagrees
from tinyfleet.export.formats import FORMATS, Order, export
from tinyfleet.export.front import Front
from tinyfleet.export.quality import Quality, measure
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.rehearsal import make_rehearsal
from tinyfleet.export.samples import Material
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import Samples, make_learner
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model import initial_parameters
from tinyfleet.model.layers import Conv2D, Dense, GlobalAveragePool2D, ReLU
from tinyfleet.run import fitting_model
from tinyfleet.tasks import make_task

pytestmark = pytest.mark.needs_package("ai-edge-litert", module="ai_edge_litert")

BODY = chosen(
    *("body", (8, 8, 1), CROSS_ENTROPY),
    *(Conv2D(12, 3, 2, 1), ReLU(), Conv2D(12, 3), GlobalAveragePool2D(), ReLU()),
)
HEAD = chosen("head", (1, 1, 12), CROSS_ENTROPY, Dense(5))


@pytest.fixture(params=["float32", "int8"])
def behind(request, seed):
    """An order of a head behind an extractor; samples are the extractor's."""
    body, inputs = draw_parameters(BODY, seed), draw_samples(BODY, 40, seed).inputs
    floats = request.param == "float32"
    extractor = float_tflite(BODY, body) if floats else int8_tflite(BODY, body, inputs)
    learner = make_learner(HEAD)
    features = Graph(extractor)(inputs)
    parameters = draw_parameters(HEAD, seed)
    right = learner.predict(parameters, features).argmax(axis=1)
    targets = np.eye(5, dtype=np.float32)[right]
    return Order(learner, parameters, inputs, targets, inputs, front=Front(extractor), max_drop=5)


@pytest.mark.parametrize("form", ["tflite", "tflite-int8"])
def test_a_head_and_its_extractor_are_one_file(behind, form):
    exported = export(behind, form)
    graph = Graph(TfliteFile(exported.content))
    assert graph.input.shape == (8, 8, 1)
    answers = graph(behind.inputs).argmax(axis=1)
    assert np.mean(answers == behind.targets.argmax(axis=1)) >= 0.95


def test_a_header_and_an_archive_are_of_the_head_alone(behind):
    header = export(behind, "c-header")
    assert b"#define HEAD_INPUTS 12\n" in header.content
    assert header.difference == 0
    with np.load(io.BytesIO(export(behind, "npz").content)) as arrays:
        assert arrays["dense_1/weights"].shape == (12, 5)


def test_an_unknown_format_is_refused_with_a_suggestion(behind):
    with pytest.raises(InvalidInput, match="did you mean 'tflite'"):
        export(behind, "tflit")
    assert set(FORMATS) == {"tflite", "tflite-int8", "c-header", "npz"}


def test_int8_that_loses_accuracy_is_refused(behind):
    wrong = np.roll(behind.targets, 1, axis=1)
    quality = measure(HEAD, behind.targets, wrong, wrong)
    assert quality.drop == 100.0
    with pytest.raises(Disagrees, match=r"loses 100\.00 points of accuracy on 40 samples"):
        quality.check(1.5, 5.0)


def test_without_labels_the_changed_answers_bound_the_loss(behind):
    said = behind.targets.copy()
    said[0] = np.roll(said[0], 1)
    quality = measure(HEAD, said, behind.targets, None)
    assert (quality.drop, quality.changed) == (None, 2.5)
    quality.check(2.5, 0.0)
    with pytest.raises(Disagrees, match="--test"):
        quality.check(2.4, 0.0)


def test_a_regression_is_judged_by_the_spread_of_its_outputs():
    spec = chosen("line", (1, 1, 1), MSE, Dense(1))
    expected = np.linspace(-1, 1, 100, dtype=np.float32).reshape(-1, 1)
    off = np.float32(0.1) * expected.std()
    assert measure(spec, expected + off, expected, None).error == pytest.approx(10, rel=1e-3)
    assert measure(spec, expected, expected, None).error == 0
    flat = np.zeros_like(expected)
    assert measure(spec, flat + off, flat, None).error == np.inf
    for error in (np.inf, np.nan):
        with pytest.raises(Disagrees):
            Quality(1, error=error).check(1.5, 5.0)


def test_a_rehearsal_adapts_to_problems_that_training_never_sees():
    task = make_task("sine", {})
    spec = fitting_model(task, "mlp_32")
    rehearsal = make_rehearsal(task, initial_parameters(spec, 1), tasks=3)
    calibration = np.linspace(-5, 5, 50, dtype=np.float32).reshape(-1, 1)
    quality = rehearsal.quality(make_learner(spec), calibration)
    assert quality.samples == 3 * rehearsal.settings.queries
    assert 0 < quality.error < 50


def test_a_rehearsal_of_an_initialization_that_diverges_says_so():
    task = make_task("sine", {})
    spec = fitting_model(task, "mlp_32")
    start = initial_parameters(spec, 1) * np.float32(1e12)
    calibration = np.zeros((5, 1), np.float32)
    with pytest.raises(Diverged, match="cannot be judged"):
        make_rehearsal(task, start, tasks=2).quality(make_learner(spec), calibration)


def test_samples_come_from_the_user_first_then_the_task_then_the_support():
    spec = NETWORKS["tanh_mlp"]
    given, support = draw_samples(spec, 3, 1), draw_samples(spec, 4, 2)
    of_task = draw_samples(spec, 5, 3).inputs
    everything = Material(5, given.inputs, support, (given.inputs, None), of_task)
    assert everything.for_ranges() is given.inputs
    assert everything.to_compare() == (given.inputs, None)
    both = Material(5, None, support, None, of_task)
    np.testing.assert_array_equal(both.for_ranges(), np.concatenate([of_task, support.inputs]))
    assert both.to_compare() == (support.inputs, support.targets)
    assert Material(5).for_ranges() is None
    made_up, targets = Material(5).to_compare()
    assert made_up.shape == (100, 5)
    assert targets is None
    assert isinstance(support, Samples)

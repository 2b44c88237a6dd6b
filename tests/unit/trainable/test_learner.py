"""A file that trains itself is a learner like the others: same mathematics, same rules."""

import math
from typing import Any

import numpy as np
import pytest
from trainable_files import CLASSIFIER, SINE, edited, forget, graph, signature, tensor

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import Samples, make_learner
from tinyfleet.learner.layer_table import layer_table
from tinyfleet.learner.oracle import OracleLearner
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.learner import LiteRtLearner, describe_trainable
from tinyfleet.model import ModelSpec
from tinyfleet.model.layers import Dense, Flatten, ReLU
from tinyfleet.model.spec import Parameters
from tinyfleet.model.trainable import SignatureNames
from tinyfleet.strategies.plan import Phase


def learner_of(file: TfliteFile, names: SignatureNames | None = None) -> LiteRtLearner:
    found = describe_trainable(file, names or SignatureNames())
    if file is CLASSIFIER:
        model = found.layout.model("c", (2, 3, 1), "softmax_cross_entropy")
    else:
        model = found.layout.model("s", (1, 1, 1), "mean_squared_error")
    return LiteRtLearner(model, found.graph, file)


@pytest.fixture(scope="module")
def sine() -> LiteRtLearner:
    return learner_of(SINE)


@pytest.fixture(scope="module")
def classifier() -> LiteRtLearner:
    return learner_of(CLASSIFIER)


def sine_samples(count: int, seed: int = 1) -> Samples:
    x = np.random.default_rng(seed).uniform(-2, 2, (count, 1)).astype(np.float32)
    return Samples(x, np.sin(x))


def classes(count: int, seed: int = 1) -> Samples:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    x = random.normal(labels[:, None], 1, (count, 6)).astype(np.float32)
    return Samples(x, np.eye(3, dtype=np.float32)[labels])


OUR_SINE = ModelSpec(
    "ours", (1, 1, 1), (Dense(16), ReLU(), Dense(16), ReLU(), Dense(1)), "mean_squared_error"
)
OUR_CLASSIFIER = ModelSpec(
    "ours", (2, 3, 1), (Flatten(), Dense(8), ReLU(), Dense(3)), "softmax_cross_entropy"
)


def in_our_order(theirs: LiteRtLearner, ours: ModelSpec, parameters: Parameters) -> Parameters:
    """The same weights for `ours`: kernels before biases, where a file's are sorted by name."""
    parts = [parameters[placed.start : placed.stop] for placed in theirs.spec.placed]
    pairs = zip(parts[::2], parts[1::2], strict=True)
    return np.concatenate([part for bias, kernel in pairs for part in (kernel, bias)])


@pytest.mark.parametrize(
    ("file", "ours", "samples", "phase"),
    [
        (SINE, OUR_SINE, sine_samples(100), Phase(100, 0.02)),
        (SINE, OUR_SINE, sine_samples(20), Phase(20, 0.02, passes=5)),
        (SINE, OUR_SINE, sine_samples(50), Phase(50, 0.02, proximal=2.0)),
        (CLASSIFIER, OUR_CLASSIFIER, classes(80), Phase(80, 0.05, batch_size=4, passes=2)),
    ],
)
def test_it_learns_what_the_oracle_learns(file, ours, samples, phase):
    learner, oracle = learner_of(file), OracleLearner(ours)
    got = learner.initial.copy()
    wanted = in_our_order(learner, ours, got)
    done = learner.train(got, samples, phase, learner.initial.copy())
    wanted_done = oracle.train(wanted, samples, phase, wanted.copy())
    # Float32 sums of 16 products in LiteRT's order, against float64: 1e-7 a step, 100 to 160 steps.
    np.testing.assert_allclose(in_our_order(learner, ours, got), wanted, rtol=0, atol=2e-5)
    assert done.updates == wanted_done.updates
    assert done.loss == pytest.approx(wanted_done.loss, abs=1e-5)
    assert done.finite


@pytest.mark.parametrize(
    ("file", "ours", "samples"),
    [(SINE, OUR_SINE, sine_samples(7)), (CLASSIFIER, OUR_CLASSIFIER, classes(7))],
)
def test_it_predicts_what_our_network_predicts(file, ours, samples):
    learner, reference = learner_of(file), make_learner(ours, "reference")
    parameters = learner.initial
    theirs = in_our_order(learner, ours, parameters)
    got = learner.predict(parameters, samples.inputs)
    np.testing.assert_allclose(got, reference.predict(theirs, samples.inputs), atol=1e-6)
    np.testing.assert_allclose(
        learner.losses(parameters, samples), reference.losses(theirs, samples), atol=1e-6
    )
    assert learner.predict(parameters, samples.inputs[:0]).shape == (0, ours.outputs)


def test_layers_that_do_not_learn_keep_their_bits_and_change_no_others(sine):
    step = Phase(1, 0.02)
    everything, head = sine.initial.copy(), sine.initial.copy()
    samples = sine_samples(1)
    sine.train(everything, samples, step)
    sine.train(head, samples, Phase(1, 0.02, trainable=("tensor_5", "tensor_6")))
    start = sine.spec.placed[4].start
    assert head[start:].tobytes() == everything[start:].tobytes()
    assert head[:start].tobytes() == sine.initial[:start].tobytes()


def test_a_learner_remembers_nothing_between_calls(sine):
    samples, phase = sine_samples(30), Phase(30, 0.05)
    first, again = sine.initial.copy(), sine.initial.copy()
    sine.train(first, samples, phase)
    sine.predict(np.zeros_like(first), samples.inputs)
    sine.train(again, samples, phase)
    assert first.tobytes() == again.tobytes()
    fresh = learner_of(SINE)
    other = fresh.initial.copy()
    fresh.train(other, samples, phase)
    assert first.tobytes() == other.tobytes()


def test_training_that_leaves_the_numbers_says_so(sine):
    huge = Samples(np.full((3, 1), 1e30, np.float32), np.zeros((3, 1), np.float32))
    done = sine.train(sine.initial.copy(), huge, Phase(3, 1.0))
    assert not done.finite
    assert math.isnan(done.loss)
    assert sine.train(sine.initial.copy(), sine_samples(3), Phase(3, 0.01)).finite


def double_by_nan(model: Any) -> None:
    """The gradient of a square: 2 is the one constant of that value."""
    for one in graph(model, "train").tensors:
        buffer = model.buffers[one.buffer]
        if buffer.data is not None and bytes(bytearray(buffer.data)) == np.float32(2).tobytes():
            buffer.data = np.frombuffer(np.float32(np.nan).tobytes(), np.uint8)


def test_a_file_whose_training_gives_nan_diverges():
    learner = learner_of(edited(double_by_nan))
    done = learner.train(learner.initial.copy(), sine_samples(5), Phase(5, 0.01))
    assert not done.finite
    assert math.isnan(done.loss)


def test_a_sample_that_is_no_number_diverges(sine):
    samples = sine_samples(4)
    samples.inputs[2] = np.nan
    done = sine.train(sine.initial.copy(), samples, Phase(4, 0.01))
    assert (done.finite, done.updates) == (False, 2)


@pytest.mark.parametrize(("phase", "count"), [(Phase(8, 0.1), 8), (Phase(6, 0.1, batch_size=4), 6)])
def test_a_batch_that_the_file_does_not_take_is_refused(classifier, phase, count):
    with pytest.raises(InvalidInput, match="trains on 4 samples at a time, the plan asks for"):
        classifier.train(classifier.initial.copy(), classes(count), phase)


def build_in_a_rate(model: Any) -> None:
    """0.05, as a constant, in place of the input."""
    rate, training = tensor(model, "train", "rate"), graph(model, "train")
    index = training.tensors.index(rate)
    forget(model, "train", "rate")
    training.inputs = [one for one in training.inputs if one != index]
    constant = type(model.buffers[0])()
    constant.data = np.frombuffer(np.float32(0.05).tobytes(), np.uint8)
    model.buffers.append(constant)
    rate.buffer = len(model.buffers) - 1
    assert signature(model, "train").inputs


def test_a_file_with_a_rate_of_its_own_trains_at_that_rate_and_no_other(sine):
    learner = learner_of(edited(build_in_a_rate), SignatureNames(own_rate=0.05))
    samples, got, wanted = sine_samples(20), learner.initial.copy(), sine.initial.copy()
    learner.train(got, samples, Phase(20, 0.05))
    sine.train(wanted, samples, Phase(20, 0.05))
    assert got.tobytes() == wanted.tobytes()
    with pytest.raises(InvalidInput, match=r"own rate of 0.05, the plan asks for 0.01: set inner_"):
        learner.train(got, samples, Phase(20, 0.01))


def test_another_file_is_not_taken_for_the_runs(sine):
    found = describe_trainable(CLASSIFIER, SignatureNames())
    model = found.layout.model("c", (2, 3, 1), "softmax_cross_entropy")
    with pytest.raises(InvalidInput, match="this file is"):
        LiteRtLearner(model, found.graph, SINE)


def test_no_board_and_no_other_learner_takes_its_model(sine):
    with pytest.raises(InvalidInput, match="cannot run on a board"):
        layer_table(sine.spec)
    for engine in ("auto", "native", "reference"):
        with pytest.raises(InvalidInput, match=r"needs its \.tflite file"):
            make_learner(sine.spec, engine)

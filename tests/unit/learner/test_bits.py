"""The C learner and the NumPy reference share every bit: outputs, losses, parameters, counts."""

import numpy as np
import pytest
from builds import needs_gcc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from networks import NETWORKS, draw_parameters, draw_samples, networks, phases

from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.strategies.plan import Phase

SHARES_THE_LIBRARY = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def same_bits(one, other):
    return bool((one.view(np.uint32) == other.view(np.uint32)).all())


def assert_same_training(spec, library, parameters, samples, phase):
    native, reference = parameters.copy(), parameters.copy()
    start = parameters * np.float32(0.75)  # a phase may begin away from what it is pulled back to
    done = NativeLearner(spec, library).train(native, samples, phase, start)
    expected = ReferenceLearner(spec).train(reference, samples, phase, start)
    assert done.finite == expected.finite
    if done.finite:  # otherwise the parameters are of no use
        assert done == expected
        assert same_bits(native, reference)


@needs_gcc
@SHARES_THE_LIBRARY
@given(st.data(), st.integers(0, 2**32))
def test_random_networks_and_phases(library, data, seed):
    spec = data.draw(networks())
    phase = data.draw(phases(spec))
    samples, parameters = draw_samples(spec, phase.samples, seed), draw_parameters(spec, seed)
    native, reference = NativeLearner(spec, library), ReferenceLearner(spec)
    assert same_bits(
        native.predict(parameters, samples.inputs), reference.predict(parameters, samples.inputs)
    )
    assert same_bits(native.losses(parameters, samples), reference.losses(parameters, samples))
    assert_same_training(spec, library, parameters, samples, phase)


@needs_gcc
@pytest.mark.parametrize("proximal", [0.0, 10.0])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_every_layer_kind_over_a_trajectory(library, network, batch_size, proximal, seed):
    samples, parameters = draw_samples(network, 25, seed), draw_parameters(network, seed)
    phase = Phase(25, 0.02, batch_size, passes=2, proximal=proximal)
    assert_same_training(network, library, parameters, samples, phase)


@needs_gcc
@pytest.mark.parametrize("batch_size", [1, 4])
def test_without_a_pull_the_start_does_not_matter(library, network, batch_size, seed):
    samples, parameters = draw_samples(network, 8, seed), draw_parameters(network, seed)
    for make in (lambda spec: NativeLearner(spec, library), ReferenceLearner):
        with_start, without = parameters.copy(), parameters.copy()
        phase = Phase(8, 0.02, batch_size)
        make(network).train(with_start, samples, phase, np.zeros_like(parameters))
        make(network).train(without, samples, phase)
        assert same_bits(with_start, without)


@needs_gcc
def test_each_layer_alone_can_learn(library, network, seed):
    samples, parameters = draw_samples(network, 5, seed), draw_parameters(network, seed)
    for placed in network.placed:
        phase = Phase(5, 0.1, trainable=(placed.name,))
        assert_same_training(network, library, parameters, samples, phase)
        trained = parameters.copy()
        NativeLearner(network, library).train(trained, samples, phase)
        untouched = np.delete(trained == parameters, np.s_[placed.start : placed.stop])
        assert untouched.all()


@needs_gcc
@SHARES_THE_LIBRARY
@given(st.data(), st.integers(0, 2**32))
def test_extreme_numbers(library, network, data, seed):
    """Negative zeros, denormals and values near overflow; where both stay finite, both agree."""
    extremes = st.sampled_from((-0.0, 0.0, 1e-45, -1e-40, 1e-38, 1e19, -3e38, 1.0))
    samples, parameters = draw_samples(network, 3, seed), draw_parameters(network, seed)
    for values in (parameters, samples.inputs.reshape(-1)):
        for index in data.draw(st.lists(st.integers(0, len(values) - 1), max_size=8)):
            values[index] = data.draw(extremes)
    assert_same_training(network, library, parameters, samples, Phase(3, 0.1))


@needs_gcc
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_reported(library, network, bad, seed):
    samples, parameters = draw_samples(network, 3, seed), draw_parameters(network, seed)
    inputs = samples.inputs.copy()
    inputs[1] = bad
    for learner in (NativeLearner(network, library), ReferenceLearner(network)):
        done = learner.train(parameters.copy(), Samples(inputs, samples.targets), Phase(3, 0.1))
        assert not done.finite
        assert np.isnan(done.loss)


@needs_gcc
def test_the_zero_inputs_weights_keep_their_sign(library):
    """A zero input leaves its weights as they are: the two learners skip it alike."""
    spec = NETWORKS["one_dense"]
    samples = Samples(np.zeros((1, 3), np.float32), np.full((1, 2), -1.0, np.float32))
    parameters = np.full(spec.parameter_count, -0.0, np.float32)
    for learner in (NativeLearner(spec, library), ReferenceLearner(spec)):
        trained = parameters.copy()
        learner.train(trained, samples, Phase(1, 0.1))
        assert np.signbit(trained[:6]).all()

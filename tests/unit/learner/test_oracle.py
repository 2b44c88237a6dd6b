"""The oracle's gradients are the derivatives of its losses."""

import numpy as np
import pytest
from networks import NETWORKS, draw_parameters, draw_samples

from tinyfleet.learner.oracle import KINDS, OracleLearner
from tinyfleet.model.layers import LAYER_KINDS, Tensor
from tinyfleet.strategies.plan import Phase

STEP = 1e-6


def test_every_layer_kind_is_among_the_tested_networks():
    assert set(KINDS) == set(LAYER_KINDS.values()) - {Tensor}
    assert {type(layer) for spec in NETWORKS.values() for layer in spec.layers} == set(KINDS)


@pytest.mark.parametrize("sample", range(3))
def test_the_gradient_is_the_finite_difference(network, sample, seed):
    # Central differences are off by STEP^2 f'''/6, about 1e-12 here, and by the rounding of two
    # losses of size about 1: 2^-52 / STEP, about 2e-10. 2e-8 leaves room for larger losses.
    samples = draw_samples(network, 3, seed)
    parameters = draw_parameters(network, seed).astype(np.float64)
    x, t = samples.inputs[sample].astype(float), samples.targets[sample].astype(float)
    oracle = OracleLearner(network)
    loss, gradient = oracle.gradient(parameters, x, t)
    for index in np.random.default_rng(seed).permutation(len(parameters))[:60]:
        above, below = parameters.copy(), parameters.copy()
        above[index] += STEP
        below[index] -= STEP
        difference = oracle.gradient(above, x, t)[0] - oracle.gradient(below, x, t)[0]
        assert abs(difference / (2 * STEP) - gradient[index]) < 2e-8 * max(1.0, loss)


def test_training_brings_the_loss_down(network, seed):
    samples = draw_samples(network, 4, seed)
    parameters = draw_parameters(network, seed).astype(np.float64)
    oracle = OracleLearner(network)
    before = oracle.losses(parameters, samples).mean()
    assert oracle.train(parameters, samples, Phase(4, 0.01, 4, 20)).finite
    assert oracle.losses(parameters, samples).mean() < before

"""The C learner computes what the oracle does, within the bound that `error_bound` derives."""

import numpy as np
import pytest
from builds import needs_gcc
from error_bound import U, bound_of
from networks import draw_parameters, draw_samples

from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.oracle import OracleLearner
from tinyfleet.learner.protocol import Samples
from tinyfleet.strategies.plan import Phase

RATE = 0.125  # a power of two: the rate itself is exact
SEEDS = range(8)


def certain_cases(spec):
    """(parameters, one sample, its bound) of the seeds for which no branch hangs on rounding."""
    for seed in SEEDS:
        parameters, sample = draw_parameters(spec, seed), draw_samples(spec, 1, seed)
        x, t = sample.inputs[0].astype(float), sample.targets[0].astype(float)
        bound = bound_of(spec, parameters.astype(float), x, t)
        if bound.certain:
            yield parameters, sample, bound


@needs_gcc
def test_outputs_and_losses(library, network):
    native, oracle, tested = NativeLearner(network, library), OracleLearner(network), 0
    for parameters, sample, bound in certain_cases(network):
        exact, wide = parameters.astype(float), sample.inputs.astype(float)
        off = native.predict(parameters, sample.inputs) - oracle.predict(exact, wide)
        assert (np.abs(off[0]) <= bound.outputs).all()
        off_loss = native.losses(parameters, sample) - oracle.losses(exact, sample)
        assert abs(off_loss[0]) <= bound.loss
        tested += 1
    assert tested >= 3


@needs_gcc
@pytest.mark.parametrize("batched", [False, True])
def test_one_step_of_training(library, network, batched):
    """Online, and as a batch of the same sample twice: the mean gradient is that of the sample."""
    native, oracle, tested = NativeLearner(network, library), OracleLearner(network), 0
    phase = Phase(2, RATE, 2) if batched else Phase(1, RATE)
    for parameters, sample, bound in certain_cases(network):
        rows = [0, 0] if batched else [0]
        samples = Samples(sample.inputs[rows], sample.targets[rows])
        trained = parameters.copy()
        native.train(trained, samples, phase)
        x, t = sample.inputs[0].astype(float), sample.targets[0].astype(float)
        gradient = oracle.gradient(parameters.astype(float), x, t)[1]
        off = np.abs(trained - (parameters.astype(float) - RATE * gradient))
        # The step rounds the products with rate and mean, the sum of two, and the difference.
        size = np.abs(gradient) + bound.gradient
        allowed = RATE * (bound.gradient + 4 * U * size) + U * (np.abs(parameters) + RATE * size)
        assert (off <= 1.01 * allowed).all()  # 1%: products of the roundings, left out above
        assert RATE * bound.gradient.max() < 1e-2 * np.abs(RATE * gradient).max()  # it can fail
        tested += 1
    assert tested >= 3

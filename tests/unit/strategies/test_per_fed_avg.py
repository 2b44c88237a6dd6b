"""Per-FedAvg takes the step of first-order MAML, as the paper's update reads in float64."""

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner
from tinyfleet.learner.oracle import OracleLearner
from tinyfleet.run import make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.strategies import Phase, TrainingPlan, make_strategy
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})


def mean_gradient(oracle, parameters, samples):
    pairs = zip(samples.inputs.astype(float), samples.targets.astype(float), strict=True)
    return np.mean([oracle.gradient(parameters, x, t)[1] for x, t in pairs], axis=0)


def fo_maml(run, alpha, steps, beta, first):
    oracle, w = OracleLearner(run.model), run.initial_parameters().astype(float)
    plan, slots = run.make_strategy().plan(0), run.make_strategy().agents_per_round
    for number in range(run.rounds):
        meta_gradients = []
        for slot in range(slots):
            samples = training_samples(SINE, run.seed, number, slot, plan.samples)
            adapted = w.copy()
            for _ in range(steps):
                adapted -= alpha * mean_gradient(oracle, adapted, samples[:first])
            meta_gradients.append(mean_gradient(oracle, adapted, samples[first:]))
        w = w - beta * np.mean(meta_gradients, axis=0)
    return w


@pytest.mark.parametrize("steps", [1, 3])
def test_a_run_is_first_order_maml(steps):
    chosen = {"adapt_samples": 6, "adapt_rate": 0.02, "adapt_passes": steps, "samples": 4}
    options = chosen | {"inner_rate": 0.03, "agents_per_round": 3, "schedule": "constant"}
    run = make_run(SINE, "per_fed_avg", 8, 1, "mlp_32", options)
    moved = simulate(run, SINE, make_learner(run.model)).parameters
    expected = fo_maml(run, 0.02, steps, 0.03, 6)
    way = np.abs(expected - run.initial_parameters()).max()
    assert way > 0.01
    assert np.abs(expected - moved).max() < 1e-3 * way  # float32 and its ReLUs against float64


def test_the_way_to_the_adapted_point_does_not_count():
    strategy = make_strategy("per_fed_avg", 10, {"adapt_samples": 6, "samples": 4})
    assert strategy.plan(3) == TrainingPlan(
        (Phase(6, 0.01, batch_size=6), Phase(4, 0.05, batch_size=4)), counted_from=1
    )


def test_fed_tiny_ol_learns_its_head_online_and_keeps_its_body():
    layers = ("conv2d_1", "conv2d_2", "dense_1")
    plan = make_strategy("fed_tiny_ol", 10, {"samples": 7}, layers).plan(0)
    assert plan == TrainingPlan((Phase(7, 0.01, trainable=("dense_1",)),), local=layers[:2])
    assert plan.online
    whole = make_strategy("fed_tiny_ol", 10, {"head_layers": 3}, layers).plan(0)
    assert (whole.local, whole.phases[0].trainable) == ((), layers)
    with pytest.raises(InvalidInput, match=r"head_layers must be at most 3, .*, got 4"):
        make_strategy("fed_tiny_ol", 10, {"head_layers": 4}, layers)

"""FedProx against its update in float64, and what its pull does."""

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner
from tinyfleet.learner.oracle import OracleLearner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.strategies import Phase, make_strategy
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})
SMALL = {"agents_per_round": 3, "samples": 12, "batch_size": 4, "passes": 2, "inner_rate": 0.02}


def run_of(strategy="fed_prox", rounds=4, **options):
    return make_run(SINE, strategy, rounds, 1, "mlp_32", SMALL | options)


def trained_by(run):
    return simulate(run, SINE, make_learner(run.model)).parameters


def fed_prox(run, mu, rate):
    """Each device's steps along its loss, each followed by one along mu / 2 * |w' - w|^2."""
    oracle, w = OracleLearner(run.model), run.initial_parameters().astype(float)
    for number in range(run.rounds):
        moves = []
        for slot in range(SMALL["agents_per_round"]):
            samples, local = training_samples(SINE, run.seed, number, slot, 12), w.copy()
            for first in (0, 4, 8, 0, 4, 8):
                batch = samples[first : first + 4]
                pairs = zip(batch.inputs.astype(float), batch.targets.astype(float), strict=True)
                local = local - rate * np.mean(
                    [oracle.gradient(local, *p)[1] for p in pairs], axis=0
                )
                local = local - rate * mu * (local - w)
            moves.append(local - w)
        w = w + np.mean(moves, axis=0)
    return w


@pytest.mark.parametrize("mu", [0.5, 10.0])
def test_a_run_is_the_update_of_its_definition(mu):
    run = run_of(mu=mu)
    expected = fed_prox(run, mu, 0.02)
    way = np.abs(expected - run.initial_parameters()).max()
    assert way > 0.01
    assert np.abs(trained_by(run) - expected).max() < 1e-3 * way  # float32, and its ReLUs


def test_a_pull_without_strength_is_fed_avg():
    runs = (run_of(mu=0), run_of("fed_avg"))
    assert len({parameters_sha256(trained_by(run)) for run in runs}) == 1


def test_the_harder_the_pull_the_nearer_a_device_stays():
    ways = [
        float(np.linalg.norm(trained_by(run) - run.initial_parameters()))
        for run in (run_of(rounds=1, mu=mu) for mu in (0, 1, 10, 50))
    ]
    assert ways == sorted(ways, reverse=True)
    assert ways[-1] < ways[0] / 2


def test_the_engines_agree():
    run = run_of(rounds=2, mu=3)
    learners = (make_learner(run.model, engine) for engine in ("auto", "reference"))
    shas = {parameters_sha256(simulate(run, SINE, learner).parameters) for learner in learners}
    assert len(shas) == 1


def test_the_plan_is_fed_avgs_with_a_pull():
    (phase,) = make_strategy("fed_prox", 9, SMALL | {"mu": 0.25}).plan(0).phases
    assert phase == Phase(12, 0.02, batch_size=4, passes=2, proximal=0.25)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mu": -1}, "mu must be 0 to 1000"),
        ({"mu": 60.0}, "inner rate times proximal must be at most 1, got 1.2"),
    ],
)
def test_a_pull_beyond_the_start_is_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        run_of(**options)


def test_a_proximal_phase_needs_a_start_of_its_own():
    run = run_of()
    learner, parameters = make_learner(run.model), run.initial_parameters()
    samples, phase = training_samples(SINE, 1, 0, 0, 4), Phase(4, 0.1, proximal=1.0)
    for start, message in (
        (None, "needs the start that it is pulled back to"),
        (parameters, "other memory than the parameters"),
        (parameters[1:].copy(), "takes 1153 float32 parameters"),
    ):
        with pytest.raises(InvalidInput, match=message):
            learner.train(parameters, samples, phase, start)

"""Making a learner, running a plan."""

import logging
from functools import partial

import numpy as np
import pytest
from networks import NETWORKS, draw_parameters, draw_samples

from tinyfleet import learner as learners
from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.learner import NativeLearner, make_learner, native, run_plan
from tinyfleet.learner.protocol import Samples, learn_by_plan
from tinyfleet.learner.reference import ReferenceLearner
from tinyfleet.strategies.plan import Phase, TrainingPlan

MLP = NETWORKS["mlp"]


@pytest.fixture
def no_library(tmp_path, monkeypatch):
    monkeypatch.setattr(learners, "LIBRARY", tmp_path / "none.so")
    learners._say_once_that_it_is_slow.cache_clear()


def test_auto_is_native_where_the_library_is():
    if not native.LIBRARY.is_file():
        pytest.skip("this installation has no C learner")
    assert isinstance(make_learner(MLP), NativeLearner)


def test_auto_falls_back_to_numpy_and_says_so_once(no_library, caplog):
    with caplog.at_level(logging.WARNING):
        assert isinstance(make_learner(MLP), ReferenceLearner)
        assert isinstance(make_learner(MLP), ReferenceLearner)
    assert len(caplog.records) == 1
    assert "make setup" in caplog.text


def test_asking_for_a_missing_native_learner_is_an_error(tmp_path, monkeypatch):
    missing = partial(native.load_library, tmp_path / "none.so")
    monkeypatch.setattr(native, "load_library", missing)
    with pytest.raises(DoesNotFit, match="make setup"):
        make_learner(MLP, "native")


def test_an_unknown_engine_is_named_with_a_suggestion():
    with pytest.raises(InvalidInput, match="did you mean 'native'"):
        make_learner(MLP, "natve")


def test_a_plan_runs_its_phases_on_consecutive_samples(seed):
    head, body = MLP.placed[-1].name, MLP.placed[0].name
    phases = (Phase(3, 0.1, trainable=(head,)), Phase(4, 0.05, 2, 3, trainable=(body,)))
    samples, parameters = draw_samples(MLP, 7, seed), draw_parameters(MLP, seed)
    by_hand, learner = parameters.copy(), ReferenceLearner(MLP)
    first = learner.train(by_hand, samples[:3], phases[0])
    second = learner.train(by_hand, samples[3:], phases[1])
    done = run_plan(learner, parameters, samples, TrainingPlan(phases))
    assert (parameters == by_hand).all()
    assert done.updates == first.updates + second.updates == 3 + 2 * 3
    assert done.loss == pytest.approx((3 * first.loss + 12 * second.loss) / 15)
    assert done.finite


@pytest.mark.parametrize("counted_from", [0, 1, 2])
def test_a_change_counts_from_the_phase_that_the_plan_names(counted_from, seed):
    phases = (Phase(3, 0.1), Phase(2, 0.05, 2), Phase(2, 0.1))
    samples, start = draw_samples(MLP, 7, seed), draw_parameters(MLP, seed)
    learner, before, plan = ReferenceLearner(MLP), start.copy(), TrainingPlan(phases)
    states, first = [start], 0
    for phase in phases:
        states.append(states[-1].copy())
        learner.train(states[-1], samples[first : first + phase.samples], phase)
        first += phase.samples
    counting = TrainingPlan(phases, counted_from=counted_from)
    delta, done = learn_by_plan(learner, start, samples, counting)
    assert (delta == states[-1] - states[counted_from]).all()
    assert done == run_plan(learner, before.copy(), samples, plan)
    assert (start == before).all()


def test_a_plan_with_another_number_of_samples_is_refused(seed):
    samples = draw_samples(MLP, 4, seed)
    with pytest.raises(InvalidInput, match="takes 5 samples, got 4"):
        run_plan(
            *(ReferenceLearner(MLP), draw_parameters(MLP, seed), samples),
            TrainingPlan((Phase(5, 0.1),)),
        )


def test_a_plan_stops_where_training_diverges(seed):
    samples, parameters = draw_samples(MLP, 40, seed), draw_parameters(MLP, seed)
    loud = Samples(samples.inputs * np.float32(1e6), samples.targets)
    plan = TrainingPlan((Phase(20, 10.0), Phase(20, 0.1)))
    done = run_plan(ReferenceLearner(MLP), parameters, loud, plan)
    assert not done.finite
    assert np.isnan(done.loss)
    assert done.updates <= 20

"""Adapt-then-test: repeatable, honest about divergence, and on problems nobody has seen."""

import math
from typing import ClassVar

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.evaluation import EvaluationSettings, evaluate
from tinyfleet.evaluation.adaptation import adapt, evaluation_problems
from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec
from tinyfleet.randomness import RandomStream
from tinyfleet.run import fitting_model
from tinyfleet.tasks import FewShotProblem, make_task

SINE = make_task("sine", {})
LINE = ModelSpec("line", (1, 1, 1), (Dense(1),), "mean_squared_error")
SIDES = ModelSpec("sides", (1, 1, 1), (Dense(2),), "softmax_cross_entropy")


class Slopes:
    """y = slope * x with a slope per problem: one online step explains the adapted loss by hand."""

    name: ClassVar[str] = "slopes"
    default_model: ClassVar[str] = "mlp_32"
    recommended: ClassVar[dict] = {}
    recommended_evaluation: ClassVar[dict] = {"shots": 1, "queries": 2, "passes": 3, "rate": 0.25}
    options: ClassVar[dict] = {}
    input_shape = (1, 1, 1)
    outputs = 1
    loss = "mean_squared_error"
    test_samples: ClassVar[int | None] = None

    def training_samples(self, stream: RandomStream, count: int) -> Samples:
        raise AssertionError("an evaluation must not touch the training problems")

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        slope = 1.0 + stream.uniform(1)[0]
        return FewShotProblem(self._line(slope, shots), self._line(slope, queries))

    def _line(self, slope: float, count: int) -> Samples:
        inputs = np.ones((count, 1), np.float32)
        return Samples(inputs, np.float32(slope) * inputs)


class Signs(Slopes):
    """Is x positive? Every problem is the same two samples."""

    outputs = 2
    loss = "softmax_cross_entropy"

    def evaluation_problem(self, stream: RandomStream, shots: int, queries: int) -> FewShotProblem:
        inputs = np.array([[1.0], [-1.0]], np.float32)
        samples = Samples(inputs, np.eye(2, dtype=np.float32))
        return FewShotProblem(samples, samples)


def zeros(spec):
    return np.zeros(spec.parameter_count, np.float32)


def test_each_online_step_halves_the_error_as_computed_by_hand():
    # x = 1: the gradient of (w + b - y)**2 is 2e for w and for b, so a step at rate 0.125 halves e.
    settings = EvaluationSettings.for_task(Slopes(), tasks=5, rate=0.125)
    result = evaluate(make_learner(LINE), zeros(LINE), Slopes(), settings)
    slopes = [p.query.targets[0, 0] for p in evaluation_problems(Slopes(), settings)]
    squares = np.mean(np.square(slopes, dtype=np.float64))
    assert result.before.loss == pytest.approx(squares, rel=1e-6)
    for step, point in enumerate(result.curve):
        assert point.steps == step
        assert point.score.loss == pytest.approx(squares / 4.0**step, rel=1e-5)
    assert result.after.loss == result.curve[3].score.loss
    assert result.after.accuracy is None


def test_accuracy_rises_from_chance_to_all():
    settings = EvaluationSettings(tasks=3, passes=10, rate=0.5)
    result = evaluate(make_learner(SIDES), zeros(SIDES), Signs(), settings)
    assert result.before.accuracy == 0.5
    assert result.after.accuracy == 1.0
    assert result.before.loss == pytest.approx(math.log(2))
    assert result.after.loss < 0.5


def test_only_the_last_layers_learn_where_the_settings_say_so():
    spec = fitting_model(SINE, "mlp_32")
    learner, start = make_learner(spec), initial_parameters(spec, 1)
    problem = next(evaluation_problems(SINE, EvaluationSettings(tasks=1, shots=5)))
    for count in (1, 2):
        adapted = start.copy()
        settings = EvaluationSettings(passes=1, last_layers=count)
        assert adapt(learner, adapted, problem.support, settings, 1)
        frozen = [p for p in spec.placed if p.trainable][:-count]
        learned = [p for p in spec.placed if p.trainable][-count:]
        assert all(same(adapted, start, layer) for layer in frozen)
        assert not any(same(adapted, start, layer) for layer in learned)
    all_of_them, named = (
        evaluate(learner, start, SINE, EvaluationSettings(tasks=3, last_layers=count))
        for count in (0, len(spec.trainable_layers))
    )
    assert all_of_them.after == named.after
    assert named.to_document()["settings"]["last_layers"] == len(spec.trainable_layers)


def same(one, two, layer):
    return np.array_equal(one[layer.start : layer.stop], two[layer.start : layer.stop])


def test_more_last_layers_than_the_model_has_are_refused():
    settings = EvaluationSettings(tasks=1, last_layers=2)
    with pytest.raises(InvalidInput, match=r"last_layers must be 0 to 1, the layers of .*line.*2"):
        evaluate(make_learner(LINE), zeros(LINE), Slopes(), settings)


def test_the_same_seed_gives_the_same_result_and_another_does_not():
    learner = make_learner(LINE)
    results = [
        evaluate(learner, zeros(LINE), Slopes(), EvaluationSettings(tasks=20, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert results[0] == results[1]
    assert results[0].before != results[2].before


def test_the_parameters_stay_as_they_are():
    parameters = zeros(LINE)
    evaluate(make_learner(LINE), parameters, Slopes(), EvaluationSettings(tasks=3))
    assert not parameters.any()


def test_the_curve_changes_nothing_but_the_curve():
    learner, task = make_learner(LINE), Slopes()
    with_curve, without = (
        evaluate(learner, zeros(LINE), task, EvaluationSettings(tasks=10, curve_tasks=count))
        for count in (10, 0)
    )
    assert with_curve.after == without.after
    assert (len(with_curve.curve), without.curve) == (6, ())


def test_divergence_is_counted_and_not_averaged():
    # Steps at rate 10 multiply the error by -39 each: 100 passes leave float32.
    settings = EvaluationSettings(tasks=4, passes=100, rate=10.0)
    result = evaluate(make_learner(LINE), zeros(LINE), Slopes(), settings)
    assert result.after.diverged == 4
    assert math.isnan(result.after.loss)
    assert result.to_document()["after"] == {
        "loss": None,
        "accuracy": None,
        "ci95": [None, None],
        "diverged": 4,
    }


def test_progress_is_told_after_each_problem():
    told = []
    evaluate(make_learner(LINE), zeros(LINE), Slopes(), EvaluationSettings(tasks=3), told.append)
    assert told == [1, 2, 3]


def test_the_first_problems_do_not_depend_on_how_many_follow():
    few, many = (
        list(evaluation_problems(SINE, EvaluationSettings(tasks=count, seed=7))) for count in (2, 4)
    )
    for one, two in zip(few, many, strict=False):
        assert np.array_equal(one.support.inputs, two.support.inputs)


def test_a_task_recommends_and_the_user_decides():
    chosen = EvaluationSettings.for_task(SINE, shots=3, rate=None)
    assert chosen.shots == 3
    assert chosen.rate == SINE.recommended_evaluation["rate"]
    with pytest.raises(InvalidInput, match="unknown evaluation setting 'shot'"):
        EvaluationSettings.for_task(SINE, shot=3)


class Few(Slopes):
    """Twenty samples of each class to test on, as Omniglot has."""

    name = "few"
    test_samples = 20


def test_queries_are_as_many_as_there_are_left_after_the_shots():
    recommended = {"shots": 5, "queries": 15}
    assert EvaluationSettings.for_task(Few(), **recommended).queries == 15
    assert EvaluationSettings.for_task(Few(), shots=1).queries == 2  # as recommended
    with pytest.raises(InvalidInput, match=r"6 shots leave 14 samples .* not 15 queries"):
        EvaluationSettings.for_task(Few(), shots=6, queries=15)
    many = EvaluationSettings(shots=5, queries=15)
    found = {shots: many.at_shots(shots, Few()).queries for shots in (1, 5, 6, 10, 19)}
    assert found == {1: 15, 5: 15, 6: 14, 10: 10, 19: 1}
    assert many.at_shots(20, Slopes()).queries == 15
    with pytest.raises(InvalidInput, match=r"20 shots leave nothing to test on.*1 to 19 shots"):
        many.at_shots(20, Few())


@pytest.mark.parametrize(
    "bad",
    [
        {"tasks": 0},
        {"tasks": 10**7},
        {"shots": 0},
        {"queries": 0},
        {"passes": 0},
        {"passes": 1001},
        {"seed": -1},
        {"seed": 2**63},
        {"curve_tasks": -1},
        {"last_layers": -1},
        {"last_layers": 65},
        {"rate": 0.0},
        {"rate": math.nan},
        {"rate": 11.0},
    ],
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(InvalidInput, match="must be"):
        EvaluationSettings(**bad)


def test_parameters_of_another_model_are_refused():
    with pytest.raises(InvalidInput, match="takes 2 float32 parameters"):
        evaluate(make_learner(LINE), np.zeros(3, np.float32), Slopes(), EvaluationSettings(tasks=1))

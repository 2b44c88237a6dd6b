"""A run in trouble is warned about while it trains, and one that does well is left alone."""

import math

import pytest

from tinyfleet.evaluation import Evaluation, EvaluationSettings, Health
from tinyfleet.evaluation.score import Result, score
from tinyfleet.model.layers import Dense
from tinyfleet.model.spec import ModelSpec

FIVE = ModelSpec("five", (1, 1, 1), (Dense(5),), "softmax_cross_entropy")
LINE = ModelSpec("line", (1, 1, 1), (Dense(1),), "mean_squared_error")


def accuracies(mean):
    return score([Result(1.0, mean + shift) for shift in (-0.05, 0.05) * 20])


def losses(mean):
    return score([Result(mean * factor, None) for factor in (0.9, 1.1) * 20])


def outcome(before, after):
    return Evaluation(EvaluationSettings(tasks=40), before, after, ())


def health(model=FIVE, rounds=100, said=None):
    heard = []
    return Health(rounds, model, heard.append, said), heard


def test_a_classifier_no_better_than_guessing_is_said_after_the_first_quarter_and_once():
    watch, heard = health()
    chance = outcome(accuracies(0.2), accuracies(0.2))
    for version in (5, 24):
        watch.tested(version, chance)
    assert heard == []
    for version in (25, 50, 75):
        watch.tested(version, chance)
    assert heard == ["no better than guessing in round 25: try lower rates"]
    watch.tested(100, chance)
    assert "no better than guessing at the end" in heard[1]
    assert watch.warnings == tuple(heard)


def test_a_classifier_that_adapts_is_left_alone_whatever_it_was_before():
    watch, heard = health()
    watch.tested(50, outcome(accuracies(0.2), accuracies(0.5)))
    watch.tested(75, outcome(accuracies(0.9), accuracies(0.9)))  # nothing left to adapt
    assert heard == []


def test_a_regression_that_does_not_gain_from_adapting_is_said():
    watch, heard = health(LINE)
    watch.tested(50, outcome(losses(4.0), losses(0.5)))
    assert heard == []
    watch.tested(75, outcome(losses(4.0), losses(3.95)))
    assert "no better than without adaptation in round 75" in heard[0]


def test_an_untrained_model_is_to_be_beaten_where_it_was_tested():
    watch, heard = health()
    watch.tested(50, outcome(accuracies(0.2), accuracies(0.5)), untrained=(0.55, 0.65))
    assert "no better than an untrained model in round 50" in heard[0]


def test_lost_adaptations_and_updates_are_said():
    watch, heard = health()
    watch.updates(700, 12)
    watch.updates(701, 13)
    gone = score([Result(math.nan, 0.0), Result(1.0, 0.9)])
    watch.tested(10, Evaluation(EvaluationSettings(tasks=2), gone, gone, ()))
    assert heard == [
        "12 updates diverged in 700 rounds: lower the rates",
        "1 of 2 adaptations diverge in round 10: adapt at a lower rate",
    ]


@pytest.mark.parametrize(("version", "diverged"), [(9, 9), (1_000, 10), (12_000, 100)])
def test_single_updates_that_diverge_are_no_trouble(version, diverged):
    watch, heard = health()
    watch.updates(version, diverged)
    assert heard == []


def test_when_every_adaptation_diverges_the_model_is_good_for_nothing():
    watch, heard = health(LINE)
    nothing = score([Result(math.nan, None)] * 3)
    watch.tested(100, Evaluation(EvaluationSettings(tasks=3), losses(4.0), nothing, ()))
    assert len(heard) == 2
    assert "no better than without adaptation at the end" in heard[1]


def test_what_was_said_before_is_not_said_again():
    said = {}
    first, _ = health(said=said)
    first.updates(30, 10)
    again, heard = health(said=said)
    again.updates(40, 20)
    assert heard == []
    assert again.warnings == first.warnings


@pytest.mark.parametrize("model", [None, LINE])
def test_an_initialization_that_nobody_trained_need_not_be_good(model):
    watch, heard = health(model, rounds=0)
    watch.tested(0, outcome(losses(4.0), losses(4.0)))
    assert heard == []

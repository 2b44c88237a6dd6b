"""TinyMetaFed's plan and rule: what learns when, what stays, what is sent, how far it goes."""

import math

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import Download, Phase, TrainingPlan, Update, Upload, make_strategy

LAYERS = ("conv2d_1", "conv2d_2", "dense_1")


def strategy_of(layers=LAYERS, rounds=10, **options):
    return make_strategy("tiny_meta_fed", rounds, options, layers)


def test_the_last_layer_is_rebuilt_first_and_then_the_shared_ones_learn():
    chosen = {"local_samples": 5, "samples": 7, "local_rate": 0.5, "inner_rate": 0.25}
    strategy = strategy_of(**chosen, joint=False, fraction=0.1, precision="int8")
    assert strategy.plan(3) == TrainingPlan(
        (
            Phase(5, 0.5, trainable=("dense_1",)),
            Phase(7, 0.25, trainable=("conv2d_1", "conv2d_2")),
        ),
        local=("dense_1",),
        upload=Upload(0.1, "int8"),
        download=Download("float32", changes=True),
    )


def test_what_goes_down_is_as_precise_and_as_sparse_as_one_asks():
    plan = strategy_of(down_precision="int8", changes_only=False).plan(3)
    assert plan.download == Download("int8", changes=False)
    with pytest.raises(InvalidInput, match="int4"):
        strategy_of(down_precision="int4")


@pytest.mark.parametrize("options", [{}, {"fraction": 1.0, "precision": "float16"}])
def test_what_is_left_out_is_sent_later_only_where_it_is_asked_for(options):
    assert not strategy_of(**options).plan(0).upload.error_feedback
    assert strategy_of(**options, error_feedback=True).plan(0).upload.error_feedback


def test_jointly_every_layer_learns_in_the_second_phase():
    rebuild, learn = strategy_of(joint=True, local_layers=2).plan(0).phases
    assert rebuild.trainable == ("conv2d_2", "dense_1")
    assert learn.trainable == ()


def test_without_local_layers_there_is_nothing_to_rebuild():
    plan = strategy_of(local_layers=0, samples=7).plan(0)
    assert plan.local == ()
    assert [phase.samples for phase in plan.phases] == [7]


def test_every_sample_is_seen_once_and_forgotten():
    assert strategy_of().plan(0).online


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("cosine", [(1 + math.cos(math.pi * i / 4)) / 2 for i in range(4)]),
        ("constant", [1.0] * 4),
    ],
)
def test_the_server_steps_towards_the_mean_by_the_schedule(schedule, steps):
    strategy = strategy_of(rounds=4, schedule=schedule, outer_rate=1.0, agents_per_round=2)
    updates = [Update(slot, np.array([delta], np.float32), 1) for slot, delta in enumerate((2, 4))]
    for number, step in enumerate(steps):
        moved = strategy.apply(np.zeros(1, np.float32), updates, number)
        assert moved.dtype == np.float32
        assert moved[0] == pytest.approx(3.0 * step, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosin"}, "unknown schedule 'cosin': did you mean 'cosine'"),
        ({"schedule": 3}, "unknown schedule '3'"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"joint": 1}, "joint must be true or false, got 1"),
        ({"fraction": 0}, "fraction must be 1e-09 to 1, got 0"),
        ({"error_feedback": True, "fraction": 1.0}, "error_feedback is for updates that leave"),
        ({"fraction": 1.01}, "fraction must be 1e-09 to 1"),
        ({"local_layers": 3}, "local_layers must be below 3, .* one at least is shared, got 3"),
        ({"local_samples": 0}, "local_samples must be 1 to"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidInput, match=message):
        strategy_of(**options)


def test_the_layers_are_the_runs_and_no_option():
    with pytest.raises(InvalidInput, match="unknown option of tiny_meta_fed 'layers'"):
        make_strategy("tiny_meta_fed", 10, {"layers": "dense_1"}, LAYERS)

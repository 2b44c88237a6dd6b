"""Plans count their samples and updates, and refuse what no device could do."""

import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import Phase, TrainingPlan


@pytest.mark.parametrize(
    ("phase", "online", "updates"),
    [
        (Phase(10, 0.1), True, 10),
        (Phase(10, 0.1, batch_size=4), False, 3),
        (Phase(10, 0.1, passes=2), False, 20),
        (Phase(10, 0.1, batch_size=10, passes=3), False, 3),
    ],
)
def test_a_phase_knows_whether_it_stores_samples_and_how_often_it_steps(phase, online, updates):
    assert phase.online is online
    assert phase.updates == updates


def test_a_plan_adds_up_its_phases():
    plan = TrainingPlan((Phase(10, 0.1), Phase(5, 0.1, passes=2)))
    assert plan.samples == 15
    assert not plan.online


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samples": 0}, "samples of a phase must be 1 to 1000000"),
        ({"samples": 1_000_001}, "samples of a phase"),
        ({"batch_size": 0}, "batch size must be 1 to 10"),
        ({"batch_size": 11}, "batch size must be 1 to 10"),
        ({"passes": 0}, "passes must be"),
        ({"passes": 10_001}, "passes must be"),
        ({"rate": 0.0}, "inner rate"),
        ({"rate": float("nan")}, "inner rate"),
        ({"rate": 10.5}, "inner rate"),
        ({"proximal": -0.1}, "proximal must be 0 to 1000, got -0.1"),
        ({"proximal": 1000.5}, "proximal must be 0 to 1000"),
        ({"proximal": float("nan")}, "proximal must be 0 to 1000"),
        ({"rate": 0.1, "proximal": 10.5}, "inner rate times proximal must be at most 1, got 1.05"),
    ],
)
def test_phases_out_of_range_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        Phase(**({"samples": 10, "rate": 0.1} | options))


@pytest.mark.parametrize("counted_from", [-1, 2, 2**32])
def test_the_change_is_counted_from_one_of_the_phases(counted_from):
    with pytest.raises(InvalidInput, match="counted_from of a plan must be 0 to 1, got"):
        TrainingPlan((Phase(1, 0.1),) * 2, counted_from=counted_from)


@pytest.mark.parametrize("count", [0, 9])
def test_a_plan_has_one_to_eight_phases(count):
    with pytest.raises(InvalidInput, match="phases of a plan must be 1 to 8"):
        TrainingPlan((Phase(1, 0.1),) * count)

"""FedBuff's plan and rule: what comes late weighs less, and the buffer's size divides the sum."""

import math

import numpy as np
import pytest

from tinyfleet.errors import InvalidInput
from tinyfleet.strategies import STRATEGIES, Phase, TrainingPlan, Update, make_strategy
from tinyfleet.strategies.base import asynchronous


def late(*pairs):
    """Updates of one number each: (value, staleness)."""
    return [Update(0, np.array([value], np.float32), 4, behind) for value, behind in pairs]


def test_devices_learn_online():
    strategy = make_strategy("fed_buff", 9, {"samples": 7, "inner_rate": 0.25, "buffer": 3})
    assert strategy.plan(5) == TrainingPlan((Phase(7, 0.25),))
    assert (strategy.plan(5).online, strategy.agents_per_round) == (True, 3)


def test_an_update_weighs_less_the_more_versions_it_missed():
    strategy = make_strategy("fed_buff", 4, {"outer_rate": 1.0, "schedule": "constant"})
    zero = np.zeros(1, np.float32)
    for behind, weight in ((0, 1.0), (3, 0.5), (8, 1 / 3), (1, 1 / math.sqrt(2))):
        moved = strategy.apply(zero, late((6.0, behind)), 0)
        assert moved.tolist() == [np.float32(6.0 * weight)]
        assert moved.dtype == np.float32


def test_a_buffer_of_old_updates_moves_the_model_less():
    strategy = make_strategy("fed_buff", 4, {"outer_rate": 1.0, "schedule": "constant"})
    zero = np.zeros(1, np.float32)
    assert strategy.apply(zero, late((2.0, 0), (4.0, 0)), 0).tolist() == [3.0]
    assert strategy.apply(zero, late((2.0, 3), (4.0, 3)), 0).tolist() == [1.5]
    assert strategy.apply(zero, late((2.0, 3), (4.0, 0)), 0).tolist() == [2.5]


def test_the_servers_step_follows_the_schedule():
    strategy = make_strategy("fed_buff", 4, {"outer_rate": 1.0})
    steps = [strategy.apply(np.zeros(1, np.float32), late((8.0, 0)), n)[0] for n in range(4)]
    assert steps == [8.0, 6.0, 4.0, 2.0]


def test_it_alone_lets_rounds_overlap():
    overlapping = [n for n in STRATEGIES if asynchronous(make_strategy(n, 2, {}, ("a", "b")))]
    assert overlapping == ["fed_buff"]


@pytest.mark.parametrize("options", [{"buffer": 0}, {"concurrency": 1025}, {"max_staleness": -1}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(InvalidInput, match=next(iter(options))):
        make_strategy("fed_buff", 2, options)

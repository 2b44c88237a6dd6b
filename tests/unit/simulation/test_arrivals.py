"""Devices of unlike speeds: who is done when, from which version, and that all is done once."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.portable import portable_exp
from tinyfleet.run import make_run, training_samples
from tinyfleet.simulation import simulate
from tinyfleet.simulation.arrivals import Devices, devices_of, speeds_of
from tinyfleet.strategies import Update
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})
SMALL = {"samples": 8, "inner_rate": 0.005, "outer_rate": 0.5}


def run_of(strategy="fed_buff", rounds=12, **options):
    return make_run(SINE, strategy, rounds, 1, "mlp_32", SMALL | options)


def buffers(devices, rounds):
    return [devices.next_buffer(version, f"w{version}") for version in range(rounds)]


def told(buffer):
    return [(one.time, one.device, one.slot, one.base_version) for one in buffer]


def test_a_device_begins_with_the_newest_version_as_soon_as_it_is_done():
    devices = Devices([1.0, 0.5], slots=6, buffer=2, max_staleness=9)
    first, second, third = buffers(devices, 3)
    assert told(first) == [(1.0, 0, 0, 0), (2.0, 0, 2, 0)]
    assert told(second) == [(2.0, 1, 1, 0), (3.0, 0, 3, 1)]
    assert told(third) == [(4.0, 0, 5, 2), (4.0, 1, 4, 1)]
    assert [one.start for one in second] == ["w0", "w1"]
    assert devices.time == 4.0


def test_too_old_a_slot_is_taken_back_and_begun_anew():
    devices = Devices([1.0, 0.01], slots=5, buffer=1, max_staleness=1)
    arrivals = [one for buffer in buffers(devices, 5) for one in told(buffer)]
    # At version 2 slot 1 is two versions behind: the fast device is idle first and takes it.
    assert arrivals[:3] == [(1.0, 0, 0, 0), (2.0, 0, 2, 1), (3.0, 0, 1, 2)]
    assert sorted(slot for _, _, slot, _ in arrivals) == [0, 1, 2, 3, 4]


@given(
    speeds=st.lists(st.floats(0.05, 5), min_size=1, max_size=6),
    buffer=st.integers(1, 4),
    max_staleness=st.integers(0, 4),
)
def test_each_slot_is_done_once_and_none_is_too_old(speeds, buffer, max_staleness):
    devices = Devices(speeds, 12 * buffer, buffer, max_staleness)
    slots, times = [], []
    for version, arrivals in enumerate(buffers(devices, 12)):
        assert len(arrivals) == buffer
        assert all(0 <= version - one.base_version <= max_staleness for one in arrivals)
        assert all(one.start == f"w{one.base_version}" for one in arrivals)
        slots += [one.slot for one in arrivals]
        times += [one.time for one in arrivals]
    assert sorted(slots) == list(range(12 * buffer))
    assert times == sorted(times)


def test_one_slow_device_of_four_does_not_hold_up_the_others():
    devices = Devices([1.0, 1.0, 1.0, 0.1], 4 * 1000, 4, 20)
    buffers(devices, 1000)
    versions_per_time = 1000 / devices.time
    assert versions_per_time == pytest.approx(3.1 / 4, rel=0.001)
    assert versions_per_time > 7.5 * 0.1  # a round of all four waits ten slots' time


def test_speeds_follow_from_the_seed_and_spread():
    assert speeds_of(1, 3, 0.0) == [1.0, 1.0, 1.0]
    assert speeds_of(1, 5, 0.5)[:3] == speeds_of(1, 3, 0.5) != speeds_of(2, 3, 0.5)
    logs = np.log(speeds_of(3, 4000, 0.5))
    assert (abs(np.mean(logs)) < 0.03, abs(np.std(logs) - 0.5) < 0.03) == (True, True)
    assert speeds_of(7, 2, 1.0) == [float.fromhex(one) for one in GOLDEN_SPEEDS]


GOLDEN_SPEEDS = ("0x1.77538c25f17ebp-2", "0x1.7935308f8ea17p+1")


@given(st.floats(-64, 64))
def test_the_portable_exponential_is_the_exponential(exponent):
    assert portable_exp(exponent) == pytest.approx(math.exp(exponent), rel=1e-12)


def by_hand(run):
    """The same run, written as the definition reads."""
    strategy, learner = run.make_strategy(), make_learner(run.model)
    devices, model, stales = devices_of(run), run.initial_parameters(), set()
    for version in range(run.rounds):
        updates = []
        for one in devices.next_buffer(version, model):
            place, slot = divmod(one.slot, strategy.agents_per_round)
            plan, trained = strategy.plan(place), one.start.copy()
            run_plan(learner, trained, training_samples(SINE, 1, place, slot, plan.samples), plan)
            stales.add(version - one.base_version)
            updates.append(
                Update(slot, trained - one.start, plan.samples, version - one.base_version)
            )
        model = strategy.apply(model, updates, version)
    return model, stales


def test_the_simulator_trains_each_slot_from_what_its_device_was_given():
    run = run_of(buffer=2, concurrency=5, speed_spread=1.0)
    expected, stales = by_hand(run)
    assert len(stales) > 2
    done = simulate(run, SINE, make_learner(run.model))
    assert parameters_sha256(done.parameters) == parameters_sha256(expected)
    assert (done.version, done.samples) == (12, 12 * 2 * 8)
    assert done.bytes_up == done.bytes_down == 12 * 2 * 4612


def test_one_device_and_a_buffer_of_one_is_tiny_reptile():
    alone = run_of(buffer=1, concurrency=1, schedule="linear")
    hashes = {
        parameters_sha256(simulate(run, SINE, make_learner(run.model)).parameters)
        for run in (alone, run_of("tiny_reptile"))
    }
    assert len(hashes) == 1


def test_a_run_whose_devices_are_at_work_cannot_go_on():
    run = run_of()
    with pytest.raises(InvalidInput, match="cannot go on from version 3: its devices were at work"):
        simulate(run, SINE, make_learner(run.model), None, run.initial_parameters(), 3)

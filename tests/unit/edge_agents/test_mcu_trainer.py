"""Training on a board gives what training on the host gives, whatever happens to the board."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from played_board import Bench, identity

from edge_agents.boards import Board, Ports
from edge_agents.reconnect import Clock
from edge_agents.sources import SensorSource, SlotSamples, TaskSource
from edge_agents.trainers.mcu import McuTrainer
from edge_agents.trainers.protocol import NotNow, Outcome
from edge_agents.trainers.thread import WorkThread
from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.learner.memory import memory_needed
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task

TASK = make_task("sine", {})
SPEC = make_run(TASK, "tiny_reptile", 10, 1, model="mlp_32")
START = SPEC.initial_parameters()
ONLINE = TrainingPlan((Phase(samples=32, rate=0.01),))
ALL_KINDS = TrainingPlan(
    (
        Phase(samples=8, rate=0.01, trainable=("dense_1",)),
        Phase(samples=10, rate=0.01, batch_size=4),
        Phase(samples=6, rate=0.01, passes=3),
        Phase(samples=9, rate=0.01, batch_size=2, passes=2),
    )
)
LATE = TrainingPlan(ALL_KINDS.phases, counted_from=2)
PULLED = TrainingPlan(
    (Phase(samples=8, rate=0.01), Phase(samples=9, rate=0.01, batch_size=2, proximal=20.0))
)
DRAW = SlotSamples(TaskSource(TASK, SPEC.seed), SPEC.seed, 4, 2)


async def no_pause(seconds: float) -> None:
    pass


async def trained_on(
    bench: Bench, plan: TrainingPlan = ONLINE, draw: SlotSamples = DRAW, sensor: bool = False
) -> Outcome:
    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=no_pause), bench.connect)
    await board.find()
    return await McuTrainer(board, SPEC.model, WorkThread(), sensor).train(START, plan, draw)


def expected(plan: TrainingPlan) -> Outcome:
    trained, learner, samples = START.copy(), make_learner(SPEC.model), DRAW(plan.samples)
    done = run_plan(learner, trained, samples, plan)
    counted, before = START.copy(), plan.phases[: plan.counted_from]
    if before:
        adapt = TrainingPlan(before)
        run_plan(learner, counted, samples[: adapt.samples], adapt)
    return Outcome(trained - counted, done.loss, 0.5 * len(plan.phases), diverged=False)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert one.delta.tobytes() == other.delta.tobytes()
    assert (one.loss, one.seconds, one.diverged) == (other.loss, other.seconds, other.diverged)


@pytest.fixture(autouse=True)
async def _start_stays() -> AsyncIterator[None]:
    before = START.copy()
    yield
    assert np.array_equal(START, before)


@pytest.mark.parametrize("plan", [ONLINE, ALL_KINDS, LATE, PULLED])
async def test_outcome_has_the_bits_of_the_host(plan: TrainingPlan) -> None:
    assert_same(await trained_on(Bench(), plan), expected(plan))


@pytest.mark.parametrize("failure", ["unplugged", "silent", "restarted"])
@pytest.mark.parametrize("call", range(1, 8))
async def test_failure_at_any_point_does_not_change_the_outcome(call: int, failure: str) -> None:
    bench = Bench(fail_at={call: failure})
    assert_same(await trained_on(bench, ALL_KINDS), expected(ALL_KINDS))
    assert len(bench.opened) == 2
    assert bench.calls[call:] == ["configure", "write", *["train"] * 4, "read"]


@pytest.mark.parametrize("call", range(1, 9))
async def test_failure_around_where_the_change_counts_does_not_change_it(call: int) -> None:
    bench = Bench(fail_at={call: "restarted"})
    assert_same(await trained_on(bench, LATE), expected(LATE))
    again = ["configure", "write", "train", "train", "read", "train", "train", "read"]
    assert bench.calls[call:] == again


async def test_samples_are_drawn_once_however_often_the_board_fails() -> None:
    drawn: list[int] = []

    class Counted(TaskSource):
        def draw(self, round: int, slot: int, count: int):
            drawn.append(count)
            return super().draw(round, slot, count)

    draw = SlotSamples(Counted(TASK, SPEC.seed), SPEC.seed, 4, 2)
    bench = Bench(fail_at={3: "silent", 6: "restarted"})
    assert_same(await trained_on(bench, draw=draw), expected(ONLINE))
    assert drawn == [32]


async def test_board_that_does_not_come_back_ends_this_assignment_only() -> None:
    bench = Bench(fail_at=dict.fromkeys(range(1, 99), "silent"))
    with pytest.raises(NotNow, match="the board is gone: the board is silent"):
        await trained_on(bench)
    assert len(bench.calls) == 4


async def test_diverged_training_gives_no_numbers_and_reads_none() -> None:
    bench = Bench()
    plan = TrainingPlan((Phase(samples=500, rate=10.0, passes=10), Phase(samples=1, rate=0.1)))
    outcome = await trained_on(bench, plan)
    assert outcome.diverged
    assert (len(outcome.delta), outcome.loss) == (0, 0.0)
    assert bench.calls == ["configure", "write", "train"]


async def test_model_that_does_not_fit_is_no_matter_of_trying_again() -> None:
    need = memory_needed(SPEC.model)
    bench = Bench(identity(memory_bytes=need.plan_bytes(ALL_KINDS) - 1))
    with pytest.raises(DoesNotFit, match="1 too few"):
        await trained_on(bench, ALL_KINDS)
    assert len(bench.opened) == 1
    fitting = Bench(identity(memory_bytes=need.plan_bytes(ALL_KINDS)))
    assert_same(await trained_on(fitting, ALL_KINDS), expected(ALL_KINDS))


async def test_impossible_plan_is_refused_before_the_board_is_asked() -> None:
    bench = Bench()
    plan = TrainingPlan((Phase(samples=4, rate=0.1, trainable=("dense_7",)),))
    with pytest.raises(InvalidInput, match="dense_7"):
        await trained_on(bench, plan)
    assert bench.calls == []


async def test_sensor_is_seeded_by_the_slot_and_by_each_phase() -> None:
    def slot(round: int, number: int) -> SlotSamples:
        return SlotSamples(SensorSource(), SPEC.seed, round, number)

    seeds = [seed for n in range(3) for seed in slot(n, 1).seeds(4)] + slot(1, 0).seeds(4)
    assert len(set(seeds)) == 16
    assert all(0 <= seed < 2**32 for seed in seeds)
    plan = TrainingPlan((Phase(samples=8, rate=0.1), Phase(samples=8, rate=0.1, passes=2)))
    first, again = [await trained_on(Bench(), plan, slot(1, 1), sensor=True) for _ in range(2)]
    other = await trained_on(Bench(), plan, slot(2, 1), sensor=True)
    assert first.delta.tobytes() == again.delta.tobytes()
    assert first.delta.tobytes() != other.delta.tobytes()


def test_samples_of_a_sensor_do_not_pass_through_the_agent() -> None:
    with pytest.raises(InvalidInput, match="stay on its board"):
        SlotSamples(SensorSource(), 1, 2, 3)(5)

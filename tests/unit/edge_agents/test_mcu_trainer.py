"""Training on a board gives what training on the host gives, whatever happens to the board."""

from collections.abc import AsyncIterator

import numpy as np
import pytest
from played_board import Bench, FakeDevice, identity

from edge_agents.boards import Board, Ports
from edge_agents.reconnect import Clock
from edge_agents.sources import SensorSource, SlotSamples, TaskSource
from edge_agents.trainers.mcu import SURE_NORM, McuTrainer
from edge_agents.trainers.protocol import NotNow, Outcome
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet.codec.feedback import ErrorFeedback
from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.learner import Samples, Trained, make_learner, run_plan
from tinyfleet.learner.memory import memory_needed, needs_gradient, stored_samples
from tinyfleet.learner.targets import board_memory_needed
from tinyfleet.run import make_run
from tinyfleet.strategies.base import MAX_DELTA_NORM, delta_of
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
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
SELECTED = TrainingPlan(ONLINE.phases, ("dense_3",), Upload(0.25, "int8"))
DRAW = SlotSamples(TaskSource(TASK, SPEC.seed), SPEC.seed, 4, 2)


async def no_pause(seconds: float) -> None:
    pass


async def trained_on(
    bench: Bench, plan: TrainingPlan = ONLINE, draw: SlotSamples = DRAW, sensor: bool = False
) -> Outcome:
    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=no_pause), bench.connect)
    await board.find()
    trainer = McuTrainer(board, SPEC.model, WorkThread(), sensor)
    return await trainer.train(START, plan, draw, upload_of(plan))


def upload_of(plan: TrainingPlan) -> SlotUpload:
    return SlotUpload(Exchange(SPEC.model, plan), SPEC.seed, 4, 2)


def expected(plan: TrainingPlan) -> Outcome:
    trained, learner, samples = START.copy(), make_learner(SPEC.model), DRAW(plan.samples)
    done = run_plan(learner, trained, samples, plan)
    counted, before = START.copy(), plan.phases[: plan.counted_from]
    if before:
        adapt = TrainingPlan(before)
        run_plan(learner, counted, samples[: adapt.samples], adapt)
    update = Exchange(SPEC.model, plan).encode(trained - counted, SPEC.seed, 4, 2)
    return Outcome(update, done.loss, 0.5 * len(plan.phases), diverged=False)


def assert_same(one: Outcome, other: Outcome) -> None:
    assert bytes(one.update) == bytes(other.update)
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
    assert (outcome.update, outcome.loss) == (b"", 0.0)
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
    assert first.update == again.update
    assert first.update != other.update


def test_samples_of_a_sensor_do_not_pass_through_the_agent() -> None:
    with pytest.raises(InvalidInput, match="stay on its board"):
        SlotSamples(SensorSource(), 1, 2, 3)(5)


def with_upload(plan: TrainingPlan, fraction: float, precision: str) -> TrainingPlan:
    return TrainingPlan(plan.phases, plan.local, Upload(fraction, precision))


@pytest.mark.parametrize("precision", ["float32", "float16", "int8"])
@pytest.mark.parametrize("plan", [ONLINE, ALL_KINDS, SELECTED])
async def test_board_with_room_for_the_start_encodes_and_no_parameters_are_read(
    plan: TrainingPlan, precision: str
) -> None:
    plan, bench = with_upload(plan, 0.3, precision), Bench()
    assert_same(await trained_on(bench, plan), expected(plan))
    assert bench.calls == ["configure", "write", *["train"] * len(plan.phases), "encode"]


def memory_with_start(plan: TrainingPlan) -> int:
    return board_memory_needed(
        SPEC.model,
        keep_start=True,
        gradient=needs_gradient(plan),
        stored_samples=stored_samples(plan),
    )


@pytest.mark.parametrize(("missing", "last"), [(0, "encode"), (1, "read")])
@pytest.mark.parametrize("plan", [ONLINE, ALL_KINDS, SELECTED])
async def test_host_encodes_for_a_board_that_lacks_one_byte(
    plan: TrainingPlan, missing: int, last: str
) -> None:
    plan = with_upload(plan, 0.3, "int8")
    bench = Bench(identity(memory_bytes=memory_with_start(plan) - missing))
    assert_same(await trained_on(bench, plan), expected(plan))
    assert bench.calls[-1] == last


async def test_change_that_counts_from_a_later_phase_is_encoded_by_the_host() -> None:
    """The board's copy is of the start, and what the first phases change is no part of it."""
    plan = TrainingPlan(ALL_KINDS.phases, upload=Upload(0.3, "int8"), counted_from=2)
    bench = Bench()
    assert_same(await trained_on(bench, plan), expected(plan))
    assert [call for call in bench.calls if call in ("read", "encode")] == ["read", "read"]


async def test_proximal_plan_pulls_to_the_copy_that_the_update_is_then_made_of() -> None:
    plan, bench = TrainingPlan(PULLED.phases, upload=Upload(0.3, "int8")), Bench()
    assert_same(await trained_on(bench, plan), expected(plan))
    assert bench.calls[-1] == "encode"


@pytest.mark.parametrize("plan", [ONLINE, TrainingPlan(ONLINE.phases, ("dense_3",))])
async def test_dense_update_is_the_parameters_and_is_read(plan: TrainingPlan) -> None:
    bench = Bench()
    assert_same(await trained_on(bench, plan), expected(plan))
    assert bench.calls[-1] == "read"


async def test_host_encodes_what_has_to_make_up_for_earlier_updates() -> None:
    plan = TrainingPlan(SELECTED.phases, SELECTED.local, Upload(0.25, "int8", error_feedback=True))
    exchange = Exchange(SPEC.model, plan)
    residual = np.random.default_rng(1).standard_normal(exchange.count).astype(np.float32)
    upload = SlotUpload(exchange, SPEC.seed, 4, 2, ErrorFeedback(residual))
    bench = Bench()
    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=no_pause), bench.connect)
    await board.find()
    outcome = await McuTrainer(board, SPEC.model, WorkThread()).train(START, plan, DRAW, upload)
    trained = START.copy()
    run_plan(make_learner(SPEC.model), trained, DRAW(plan.samples), plan)
    key = (SPEC.seed, 4, 2)
    data, left_out = exchange.encode_fed(trained - START, ErrorFeedback(residual), *key)
    assert outcome.update == data
    assert upload.left_out is not None
    assert upload.left_out.residual.tobytes() == left_out.residual.tobytes()
    assert bench.calls[-1] == "read"


@pytest.mark.parametrize(("missing", "who"), [(0, "board"), (1, "host")])
async def test_log_says_once_who_encodes(
    missing: int, who: str, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench(identity(memory_bytes=memory_with_start(SELECTED) - missing))
    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=no_pause), bench.connect)
    await board.find()
    trainer = McuTrainer(board, SPEC.model, WorkThread())
    with caplog.at_level("INFO", "board"):
        for _ in range(3):
            await trainer.train(START, SELECTED, DRAW, upload_of(SELECTED))
    said = [record.message for record in caplog.records if "encodes" in record.message]
    assert said == [f"the {who} encodes its updates"]


@pytest.mark.parametrize("failure", ["unplugged", "silent", "restarted"])
@pytest.mark.parametrize("call", range(1, 5))
async def test_failure_at_any_point_does_not_change_an_update_of_the_board(
    call: int, failure: str
) -> None:
    bench = Bench(fail_at={call: failure})
    assert_same(await trained_on(bench, SELECTED), expected(SELECTED))
    assert bench.calls[call:] == ["configure", "write", "train", "encode"]


@pytest.mark.parametrize(
    ("norm", "diverges", "reads"),
    [
        (0.99 * SURE_NORM, False, False),
        (1.01 * SURE_NORM, False, True),
        (0.999 * MAX_DELTA_NORM, False, True),
        (1.001 * MAX_DELTA_NORM, True, True),
        (1e25, True, True),
    ],
)
async def test_host_decides_on_divergence_from_the_parameters(
    norm: float, diverges: bool, reads: bool
) -> None:
    """The board's norm decides only where it cannot be wrong."""

    class Far(FakeDevice):
        async def train(self, phase: Phase, samples: Samples) -> Trained:
            done = await super().train(phase, samples)
            assert self._parameters is not None
            self._parameters[:] = START
            self._parameters[7] += np.float32(norm)
            return done

    bench = Bench()

    async def connect(url: str) -> FakeDevice:
        return Far(bench)

    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=no_pause), connect)
    await board.find()
    trainer = McuTrainer(board, SPEC.model, WorkThread())
    outcome = await trainer.train(START, SELECTED, DRAW, upload_of(SELECTED))
    assert outcome.diverged == diverges
    assert ("read" in bench.calls) == reads
    moved = START.copy()
    moved[7] += np.float32(norm)
    delta = delta_of(moved, START, finite=True)
    sent = b"" if delta is None else upload_of(SELECTED).encode(delta)
    assert outcome.update == sent

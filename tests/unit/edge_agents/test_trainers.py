"""Training: where it runs, what it gives, and that it never blocks what must not wait."""

import asyncio
import threading

import numpy as np
import pytest

from edge_agents.trainers.local import INLINE_S, LocalTrainer
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.learner.protocol import Samples
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
from tinyfleet.tasks import make_task

SPEC = make_run(make_task("sine", {}), "tiny_reptile", 10, 1, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan((Phase(samples=32, rate=0.01),))
UPLOAD = SlotUpload(Exchange(SPEC.model, PLAN), SPEC.seed, 4, 2)


class Timer:
    """Seconds that pass only where a test says so: with each drawing of samples."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Drawing:
    """Draws samples that take `seconds`, and remembers in which thread."""

    def __init__(self, timer: Timer, seconds: float) -> None:
        self.timer, self.seconds = timer, seconds
        self.threads: list[str] = []

    def __call__(self, count: int) -> Samples:
        self.timer.now += self.seconds
        self.threads.append(threading.current_thread().name)
        column = np.linspace(-1, 1, count, dtype=np.float32)[:, np.newaxis]
        return Samples(column, column**2)


def trainer(timer: Timer) -> LocalTrainer:
    return LocalTrainer(make_learner(SPEC.model), WorkThread(), timer)


@pytest.mark.parametrize("upload", [Upload(), Upload(0.25, "int8")])
async def test_update_is_trained_minus_start_and_start_stays(upload: Upload) -> None:
    timer = Timer()
    drawing = Drawing(timer, 0.0)
    start = START.copy()
    exchange = Exchange(SPEC.model, TrainingPlan(PLAN.phases, upload=upload))
    sending = SlotUpload(exchange, SPEC.seed, 4, 2)
    outcome = await trainer(timer).train(start, PLAN, drawing, sending)
    trained = START.copy()
    done = run_plan(make_learner(SPEC.model), trained, drawing(32), PLAN)
    assert np.array_equal(start, START)
    assert outcome.update == exchange.encode(trained - START, SPEC.seed, 4, 2)
    assert (outcome.loss, outcome.diverged) == (done.loss, False)


async def test_only_training_counts_as_training_time() -> None:
    timer = Timer()
    assert (await trainer(timer).train(START, PLAN, Drawing(timer, 7.0), UPLOAD)).seconds == 0.0


async def test_first_training_is_off_the_event_loop_and_short_ones_then_on_it() -> None:
    timer = Timer()
    local, drawing = trainer(timer), Drawing(timer, 0.5 * INLINE_S)
    for _ in range(3):
        await local.train(START, PLAN, drawing, UPLOAD)
    assert drawing.threads == ["training", "MainThread", "MainThread"]


async def test_training_that_became_slow_goes_back_to_the_thread() -> None:
    timer = Timer()
    local, drawing = trainer(timer), Drawing(timer, 0.5 * INLINE_S)
    await local.train(START, PLAN, drawing, UPLOAD)
    drawing.seconds = 2 * INLINE_S
    for _ in range(2):
        await local.train(START, PLAN, drawing, UPLOAD)
    assert drawing.threads == ["training", "MainThread", "training"]


async def test_longer_plan_goes_to_the_thread_at_once() -> None:
    timer = Timer()
    local, drawing = trainer(timer), Drawing(timer, 0.5 * INLINE_S)
    await local.train(START, PLAN, drawing, UPLOAD)
    await local.train(
        START, TrainingPlan((Phase(samples=32, rate=0.01, passes=3),)), drawing, UPLOAD
    )
    assert drawing.threads == ["training", "training"]


async def test_diverged_training_gives_no_numbers() -> None:
    timer = Timer()
    plan = TrainingPlan((Phase(samples=500, rate=10.0, passes=10),))
    outcome = await trainer(timer).train(START, plan, Drawing(timer, 0.0), UPLOAD)
    assert outcome.diverged
    assert (outcome.update, outcome.loss) == (b"", 0.0)


async def test_what_training_raises_reaches_who_awaits_it() -> None:
    timer = Timer()
    plan = TrainingPlan((Phase(samples=4, rate=0.1, trainable=("dense_7",)),))
    with pytest.raises(InvalidInput, match="dense_7"):
        await trainer(timer).train(START, plan, Drawing(timer, 0.0), UPLOAD)


async def test_event_loop_goes_on_while_the_thread_works() -> None:
    thread, release = WorkThread(), threading.Event()
    waiting = asyncio.create_task(thread.run(release.wait))
    await asyncio.sleep(0)
    release.set()  # reached only because the loop was not blocked
    assert await waiting is True


async def test_thread_survives_what_it_runs_and_keeps_the_order() -> None:
    thread = WorkThread()
    calls: list[int] = []
    jobs = [thread.run(lambda index=index: calls.append(1 // index)) for index in (1, 0, 1)]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(result) for result in results] == [type(None), ZeroDivisionError, type(None)]
    assert calls == [1, 1]


async def test_cancelled_work_leaves_the_thread_in_order() -> None:
    thread, release = WorkThread(), threading.Event()
    waiting = asyncio.create_task(thread.run(release.wait))
    await asyncio.sleep(0)
    waiting.cancel()
    release.set()
    assert await thread.run(lambda: 7) == 7

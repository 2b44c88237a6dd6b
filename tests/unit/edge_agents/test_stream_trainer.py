"""Training on a topic: the bits of the same samples at once, and never in the way of stopping."""

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from played_board import Bench

from edge_agents.boards import Board, Ports
from edge_agents.reconnect import Clock
from edge_agents.sources import SlotSamples
from edge_agents.topic.stream import Sample, StreamSource
from edge_agents.trainers.mcu import McuTrainer
from edge_agents.trainers.protocol import Draw, NotNow, Outcome
from edge_agents.trainers.stream import StreamTrainer
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet.exchange import Exchange
from tinyfleet.learner import Samples, make_learner, run_plan
from tinyfleet.learner.protocol import learn_by_plan
from tinyfleet.model.spec import Parameters
from tinyfleet.run import make_run, training_samples
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
from tinyfleet.tasks import make_task

TASK = make_task("sine", {})
SPEC = make_run(TASK, "tiny_reptile", 10, 1, model="mlp_32")
START = SPEC.initial_parameters()
LEARNER = make_learner(SPEC.model)
ONLINE = TrainingPlan((Phase(samples=12, rate=0.01), Phase(samples=9, rate=0.02)))
STORED = TrainingPlan((Phase(samples=9, rate=0.01), Phase(samples=10, rate=0.01, passes=3)))
LATE = TrainingPlan(ONLINE.phases, upload=Upload(0.3, "int8"), counted_from=1)
THREAD = WorkThread()


class Heard:
    """What is heard of a training's pieces."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Parameters, float, int]] = []

    def __call__(self, parameters: Parameters, loss: float, draw: Draw) -> None:
        self.pieces.append((parameters, loss, draw.round))


def samples_of(plan: TrainingPlan) -> Samples:
    return training_samples(TASK, 1, 4, 2, plan.samples)


def rows(samples: Samples) -> list[Sample]:
    return [Sample(x, t) for x, t in zip(samples.inputs, samples.targets, strict=True)]


def stream(timeout_s: float = 30.0) -> StreamSource:
    return StreamSource((1, 1), 64, timeout_s)


def upload_of(plan: TrainingPlan) -> SlotUpload:
    return SlotUpload(Exchange(SPEC.model, plan), SPEC.seed, 4, 2)


def training(
    source: StreamSource, plan: TrainingPlan, heard: Heard | None = None
) -> Awaitable[Outcome]:
    trainer = StreamTrainer(LEARNER, THREAD, source, heard or Heard())
    draw = SlotSamples(source, SPEC.seed, 4, 2)
    return trainer.train(START, plan, draw, upload_of(plan))


def expected(plan: TrainingPlan) -> tuple[bytes, float]:
    delta, done = learn_by_plan(LEARNER, START, samples_of(plan), plan)
    assert delta is not None
    return bytes(upload_of(plan).encode(delta)), done.loss


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what happens in the work thread tells nobody
        await asyncio.sleep(0.001)


async def put_slowly(source: StreamSource, samples: list[Sample], bursts: list[int]) -> None:
    """In bursts, and what is left at the end."""
    for burst in bursts:
        for one in samples[:burst]:
            source.put(one)
        del samples[:burst]
        await asyncio.sleep(0)
    for one in samples:
        source.put(one)


@pytest.mark.parametrize("plan", [ONLINE, STORED, LATE])
@settings(max_examples=15)
@given(bursts=st.lists(st.integers(0, 9), max_size=12))
def test_update_has_the_bits_of_all_samples_at_once(plan: TrainingPlan, bursts: list[int]) -> None:
    async def run() -> Outcome:
        source, thread = stream(), WorkThread()
        trainer = StreamTrainer(LEARNER, thread, source, Heard())
        draw = SlotSamples(source, SPEC.seed, 4, 2)
        putting = asyncio.create_task(put_slowly(source, rows(samples_of(plan)), bursts))
        outcome = await trainer.train(START, plan, draw, upload_of(plan))
        await putting
        return outcome

    outcome = asyncio.run(run())
    assert (bytes(outcome.update), outcome.loss) == expected(plan)


async def test_next_training_goes_on_where_the_last_one_ended() -> None:
    source, heard = stream(), Heard()
    first, second = samples_of(ONLINE), training_samples(TASK, 1, 5, 0, ONLINE.samples)
    for one in rows(first) + rows(second):
        source.put(one)
    await training(source, ONLINE)
    outcome = await training(source, ONLINE, heard)
    trained = START.copy()
    run_plan(LEARNER, trained, second, ONLINE)
    assert outcome.update == upload_of(ONLINE).encode(trained - START)
    assert np.array_equal(heard.pieces[-1][0], trained)


async def test_each_piece_is_heard_of_while_the_training_waits() -> None:
    source, heard = stream(), Heard()
    samples = samples_of(ONLINE)
    waiting = asyncio.ensure_future(training(source, ONLINE, heard))
    source.put(rows(samples)[0])
    await until(lambda: bool(heard.pieces))
    _, loss, of_round = heard.pieces[0]
    assert loss == LEARNER.losses(START, samples[0:1])[0]
    assert of_round == 4
    assert not waiting.done()
    source.close()
    with pytest.raises(NotNow):
        await waiting


async def test_training_that_diverges_takes_no_more_samples_and_is_not_heard_of() -> None:
    plan = TrainingPlan((Phase(samples=60, rate=10.0),))
    source, heard = stream(), Heard()
    for one in rows(samples_of(plan)):
        source.put(one)
    outcome = await training(source, plan, heard)
    assert (outcome.diverged, outcome.update, outcome.loss) == (True, b"", 0.0)
    assert heard.pieces == []


Stop = Callable[[StreamSource, "asyncio.Future[Outcome]"], None]
STOPS: dict[str, Stop] = {
    "it is withdrawn": lambda source, training: training.cancel() and None,
    "the agent stops": lambda source, training: source.close(),
    "the stream stops": lambda source, training: None,
}


@pytest.mark.parametrize("reason", STOPS)
@pytest.mark.parametrize("plan", [ONLINE, STORED])
async def test_stream_that_stops_keeps_nobody(plan: TrainingPlan, reason: str) -> None:
    source = stream(0.02 if reason == "the stream stops" else 30.0)
    for one in rows(samples_of(plan))[:15]:
        source.put(one)
    waiting = asyncio.ensure_future(training(source, plan))
    await until(lambda: source.counts.taken == 15)
    STOPS[reason](source, waiting)
    with pytest.raises((NotNow, asyncio.CancelledError)):
        await waiting
    assert await THREAD.run(lambda: 7) == 7  # nothing is left in the work thread
    assert source._in_use == 0


@pytest.mark.parametrize("plan", [ONLINE, STORED, LATE])
async def test_board_gets_the_samples_of_the_topic(plan: TrainingPlan) -> None:
    bench = Bench(fail_at={3: "restarted"})
    board = Board("pty:///b", Ports(), 1.0, Clock(sleep=lambda _: asyncio.sleep(0)), bench.connect)
    await board.find()
    source = stream()
    trainer = McuTrainer(board, SPEC.model, THREAD, stream=source)
    draw = SlotSamples(source, SPEC.seed, 4, 2)
    putting = asyncio.create_task(put_slowly(source, rows(samples_of(plan)), [1, 0, 2, 5]))
    outcome = await trainer.train(START, plan, draw, upload_of(plan))
    await putting
    assert (bytes(outcome.update), outcome.loss) == expected(plan)
    assert source.counts.taken == plan.samples


async def test_board_of_a_stream_that_stops_is_asked_for_nothing() -> None:
    bench, source = Bench(), stream(0.01)
    board = Board("pty:///b", Ports(), 1.0, connect=bench.connect)
    await board.find()
    trainer = McuTrainer(board, SPEC.model, THREAD, stream=source)
    with pytest.raises(NotNow, match="the topic gave no sample"):
        await trainer.train(START, ONLINE, SlotSamples(source, 1, 4, 2), upload_of(ONLINE))
    assert bench.calls == []

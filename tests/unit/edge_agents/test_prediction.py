"""Live models: what is handed over, what answers, what is refused, and that nothing waits."""

import asyncio
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.prediction.answering import (
    MAX_INPUT_BYTES,
    MAX_SAMPLES,
    MAX_WAITING,
    Answering,
    Busy,
)
from edge_agents.prediction.personal import Personal, PersonalModel
from edge_agents.prediction.predictor import MAX_RUNS, Predictor, PredictorsOfThread
from edge_agents.sources import SlotSamples, TaskSource
from edge_agents.trainers.local import INLINE_S, LocalTrainer
from edge_agents.trainers.thread import WorkThread
from edge_agents.uploads import SlotUpload
from tinyfleet import predictions
from tinyfleet.errors import InvalidInput, Refused
from tinyfleet.exchange import Exchange
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.spec import Parameters, parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
from tinyfleet.tasks import make_task

SINE = make_task("sine", {})
SPEC = make_run(SINE, "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
LEARNER = make_learner(SPEC.model)
PREDICTOR = Predictor.of(SPEC.model, lambda: make_learner(SPEC.model))
DRAW = SlotSamples(TaskSource(SINE, SPEC.seed), SPEC.seed, 3, 0, "run-1")
ROWS = np.linspace(-1, 1, 7, dtype=np.float32)[:, np.newaxis]
PLANS = [
    TrainingPlan((Phase(samples=32, rate=0.01),)),
    TrainingPlan(
        (Phase(samples=32, rate=0.01, batch_size=8, passes=2),), upload=Upload(0.1, "int8")
    ),
    TrainingPlan(
        (Phase(samples=8, rate=0.01), Phase(samples=24, rate=0.01, proximal=0.1)), counted_from=1
    ),
]


def personal_of(*scales: float) -> Personal:
    """One that has had these models, each a multiple of the start."""
    personal = Personal(clock=lambda: 1_000.5)
    learned = personal.hearing(SPEC, PREDICTOR)
    for scale in scales:
        learned(START * np.float32(scale), 0.25, DRAW)
    return personal


def packed(rows: Floats) -> bytes:
    return rows.astype("<f4").tobytes()


class Timer:
    """Seconds that pass only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def slow(timer: Timer, seconds: float, threads: list[str]) -> Predictor:
    """Takes so long for a sample, and remembers in which thread."""

    def make() -> Any:
        def predict(parameters: Parameters, rows: Floats) -> Floats:
            timer.now += seconds * len(rows)
            threads.append(threading.current_thread().name)
            return LEARNER.predict(parameters, rows)

        return predict

    return Predictor(SPEC.model.input_shape, SPEC.model.outputs, make)


@pytest.mark.parametrize("plan", PLANS)
async def test_trainer_hands_over_the_trained_parameters_and_sends_what_it_sent(
    plan: TrainingPlan,
) -> None:
    heard: list[tuple[Parameters, float, Any]] = []
    outcomes = []
    for learned in (None, lambda *told: heard.append(told)):
        upload = SlotUpload(Exchange(SPEC.model, plan), SPEC.seed, 3, 0)
        trainer = LocalTrainer(LEARNER, WorkThread(), learned=learned)
        outcomes.append(await trainer.train(START, plan, DRAW, upload))
    trained = START.copy()
    done = run_plan(LEARNER, trained, DRAW(plan.samples), plan)
    ((parameters, loss, draw),) = heard
    assert np.array_equal(parameters, trained)
    assert (loss, draw) == (done.loss, DRAW)
    assert outcomes[0].update == outcomes[1].update


async def test_training_that_diverged_leaves_the_model_as_it_was() -> None:
    personal = personal_of(1)
    before = personal.newest
    plan = TrainingPlan((Phase(samples=500, rate=10.0, passes=10),))
    upload = SlotUpload(Exchange(SPEC.model, plan), SPEC.seed, 3, 0)
    learned = personal.hearing(SPEC, PREDICTOR)
    trainer = LocalTrainer(LEARNER, WorkThread(), learned=learned)
    assert (await trainer.train(START, plan, DRAW, upload)).diverged
    assert personal.newest is before


def test_prediction_is_the_newest_models_and_there_is_none_before() -> None:
    losses: list[float] = []
    personal = Personal(losses.append)
    learned = personal.hearing(SPEC, PREDICTOR)
    window = np.array([0.5], np.float32)
    assert personal.predict(window) is None
    for scale in (1, 2):
        parameters = START * np.float32(scale)
        learned(parameters, 0.25, DRAW)
        predicted = personal.predict(window)
        assert predicted is not None
        assert np.array_equal(predicted, LEARNER.predict(parameters, window[None, :])[0])
        assert personal.newest is not None
        assert personal.newest.number == scale
    assert losses == [0.25, 0.25]
    checkpoint = personal.newest.checkpoint() if personal.newest else None
    assert checkpoint is not None
    assert (checkpoint.run_id, checkpoint.version) == ("run-1", 3)


async def test_answer_names_the_model_that_gave_it() -> None:
    answer = await Answering(personal_of(1, 2), "none").predict(packed(ROWS), len(ROWS))
    assert (answer.model.run_id, answer.model.round, answer.model.number) == ("run-1", 3, 2)
    assert answer.model.sha256 == parameters_sha256(START * np.float32(2))
    assert np.array_equal(answer.outputs, LEARNER.predict(START * np.float32(2), ROWS))


async def test_there_is_no_answer_before_there_is_a_model() -> None:
    answering = Answering(Personal(), "train first")
    with pytest.raises(Refused, match="train first"):
        await answering.predict(packed(ROWS), len(ROWS))
    with pytest.raises(Refused, match="train first"):
        await answering.named()


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (b"", 0, "count must be 1 to 1024 samples, got 0"),
        (b"", MAX_SAMPLES + 1, "count must be 1 to 1024"),
        (b"", 1, "takes 1x1x1 float32 a sample, 4 bytes for 1, got 0"),
        (b"\0" * 5, 1, "got 5"),
        (b"\0" * 8, 1, "got 8"),
        (b"\0" * (MAX_INPUT_BYTES + 4), 7, "at most 1048576 bytes"),
        (packed(np.array([1, np.nan], np.float32)), 2, r"unlike those of sample 1 \(counted"),
        (packed(np.array([np.inf], np.float32)), 1, "unlike those of sample 0"),
        (packed(np.array([1, 1e32], np.float32)), 2, "no finite number for sample 1"),
    ],
)
async def test_question_of_no_use_is_refused_in_one_line(
    data: bytes, count: int, message: str
) -> None:
    personal = personal_of(1e3)
    with pytest.raises(InvalidInput, match=message) as caught:
        await Answering(personal, "none").predict(data, count)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=64), st.integers(0, 2**32 - 1))
def test_any_bytes_are_answered_or_refused(data: bytes, count: int) -> None:
    answering = Answering(personal_of(1), "none")
    try:
        answer = asyncio.run(answering.predict(data, count))
    except InvalidInput:
        return
    assert answer.outputs.shape == (count, 1)
    assert np.isfinite(answer.outputs).all()


async def test_short_questions_are_answered_on_the_event_loop_and_long_ones_off_it() -> None:
    timer, threads = Timer(), list[str]()
    personal = Personal()
    personal.hearing(SPEC, slow(timer, 0.2 * INLINE_S, threads))(START, 0.1, DRAW)
    answering = Answering(personal, "none", timer)
    for count in (1, 1, 7, 1):
        await answering.predict(packed(ROWS[:count]), count)
    assert threads == ["prediction", "MainThread", "prediction", "MainThread"]


async def test_another_run_s_model_is_timed_anew() -> None:
    timer, threads = Timer(), list[str]()
    personal = Personal()
    personal.hearing(SPEC, slow(timer, 0.0, threads))(START, 0.1, DRAW)
    answering = Answering(personal, "none", timer)
    for _ in range(2):
        await answering.predict(packed(ROWS), len(ROWS))
    personal.hearing(SPEC, slow(timer, 9.0, threads))(START, 0.1, DRAW)
    await answering.predict(packed(ROWS), len(ROWS))
    assert threads == ["prediction", "MainThread", "prediction"]


async def test_questions_that_are_waited_for_no_more_are_bounded_like_others() -> None:
    release, begun = threading.Event(), threading.Event()

    def make() -> Any:
        def predict(parameters: Parameters, rows: Floats) -> Floats:
            begun.set()
            release.wait()
            return LEARNER.predict(parameters, rows)

        return predict

    personal = Personal()
    personal.hearing(SPEC, Predictor((1, 1, 1), 1, make))(START, 0.1, DRAW)
    answering = Answering(personal, "none")
    asking = [
        asyncio.create_task(answering.predict(packed(ROWS), len(ROWS))) for _ in range(MAX_WAITING)
    ]
    await asyncio.to_thread(begun.wait)
    asking[-1].cancel()
    with pytest.raises(Busy, match="ask again"):
        await answering.predict(packed(ROWS), len(ROWS))
    release.set()
    answers = await asyncio.gather(*asking, return_exceptions=True)
    assert isinstance(answers.pop(), asyncio.CancelledError)
    assert all(np.array_equal(one.outputs, LEARNER.predict(START, ROWS)) for one in answers)
    assert (await answering.predict(packed(ROWS), len(ROWS))).outputs.shape == (7, 1)


async def test_model_behind_an_extractor_takes_what_the_extractor_takes() -> None:
    def features() -> Any:
        return lambda rows: rows.sum(axis=1, keepdims=True)

    personal = Personal()
    personal.hearing(SPEC, PREDICTOR.behind((2, 2, 1), features))(START, 0.1, DRAW)
    raw = np.arange(12, dtype=np.float32).reshape(3, 4) / 10
    answer = await Answering(personal, "none").predict(packed(raw), 3)
    assert np.array_equal(answer.outputs, LEARNER.predict(START, raw.sum(axis=1, keepdims=True)))
    with pytest.raises(InvalidInput, match="takes 2x2x1"):
        await Answering(personal, "none").predict(packed(ROWS), len(ROWS))


def test_a_thread_makes_its_predictor_once_and_keeps_those_of_a_few_runs() -> None:
    made: list[int] = []

    def predictor(number: int) -> Predictor:
        def make() -> Any:
            made.append(number)
            return LEARNER.predict

        return replace(PREDICTOR, make=make)

    thread, all_of_them = PredictorsOfThread(), [predictor(n) for n in range(MAX_RUNS + 1)]
    for one in (*all_of_them[:MAX_RUNS], *all_of_them[:MAX_RUNS], all_of_them[-1], all_of_them[0]):
        thread.predict(one, START, ROWS)
    assert made == [*range(MAX_RUNS + 1), 0]


def test_hash_is_computed_once_and_only_when_asked_for() -> None:
    newest = personal_of(1).newest
    assert isinstance(newest, PersonalModel)
    assert not newest.is_hashed
    assert newest.sha256 == parameters_sha256(START)
    assert newest.is_hashed


def test_the_bounds_of_caller_and_agent_are_the_same() -> None:
    assert (predictions.MAX_SAMPLES, predictions.MAX_INPUT_BYTES) == (MAX_SAMPLES, MAX_INPUT_BYTES)
    assert predictions.samples_at_once(1) == MAX_SAMPLES
    assert predictions.samples_at_once(784) * 784 * 4 <= MAX_INPUT_BYTES
    assert predictions.samples_at_once(10_000_000) == 1

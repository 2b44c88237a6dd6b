"""An agent answers with the model that it adapts, over real sockets, while it is at work."""

import asyncio
import json
import sys
import threading
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from agent_fleet import RUN, SINE, SPEC, START, Fleet, soon
from agent_fleet import fleet as attending
from agent_peers import Visit

from edge_agents.agent import Agent
from edge_agents.prediction.personal import Personal
from edge_agents.prediction.predictor import Predictor
from edge_agents.prediction.server import predicting
from edge_agents.settings import AgentSettings
from edge_agents.sources import SlotSamples, TaskSource
from tinyfleet.cli import program
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, Unreachable
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.model.spec import Parameters, parameters_sha256
from tinyfleet.predictions import LiveModel, Prediction
from tinyfleet.run import training_samples
from tinyfleet.security.authority import Authority
from tinyfleet.security.bearer import Bearer
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.v1 import prediction_pb2, prediction_pb2_grpc

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0
LEARNER = make_learner(SPEC.model)
PLAN = TrainingPlan((Phase(samples=32, rate=0.001),))
LONG_PLAN = TrainingPlan((Phase(samples=1000, rate=0.001, passes=3000),))  # a second and more
OUR_LOGS = {"agent", "prediction"}
ROUNDS = 300
CLIENTS = 4
ROWS = np.linspace(-3, 3, 16, dtype=np.float32)[:, np.newaxis]


def trained(round: int, plan: TrainingPlan = PLAN) -> Parameters:
    """What that round makes of the start."""
    parameters = START.copy()
    samples = training_samples(SINE, SPEC.seed, round, 0, plan.samples)
    run_plan(make_learner(SPEC.model), parameters, samples, plan)
    return parameters


@dataclass
class LiveFleet:
    """A running agent and its peers, and where it answers."""

    fleet: Fleet
    address: str

    async def visit(self) -> Visit:
        visit = await self.fleet.visit()
        visit.brief(RUN, SPEC)
        return visit

    async def round(self, visit: Visit, index: int) -> None:
        visit.assign(RUN, index, PLAN, START)
        await self.fleet.update()

    async def ask(self) -> Prediction:
        return await asyncio.to_thread(ask, self.address)


def ask(address: str, tls: Path | None = None, agent: str = "") -> Prediction:
    with LiveModel(address, tls, agent) as model:
        return model.predict(ROWS)


def ask_by_stream(address: str, tls: Path | None = None) -> list[Prediction]:
    with LiveModel(address, tls) as model:
        return list(model.predict_each([ROWS]))


@asynccontextmanager
async def fleet(caplog: pytest.LogCaptureFixture, **settings: Any) -> AsyncIterator[LiveFleet]:
    """An agent that attends and answers."""
    caplog.set_level("INFO", "prediction")
    async with attending(**{"predict": "127.0.0.1:0"} | settings) as f:
        yield LiveFleet(f, await soon(said_where(caplog)))


async def said_where(caplog: pytest.LogCaptureFixture) -> str:
    while True:
        for record in caplog.records:
            if record.name == "prediction" and "answering" in record.message:
                return str(record.fields["address"])  # type: ignore[attr-defined]
        await asyncio.sleep(0.005)


@dataclass
class Asker:
    """Asks on and on, from a thread of its own, until it is told to stop."""

    address: str
    stop: threading.Event
    answers: list[Prediction] = field(default_factory=list)
    errors: list[TinyFleetError] = field(default_factory=list)

    def run(self) -> None:
        with LiveModel(self.address) as model:
            while not self.stop.is_set():
                try:
                    self.answers.append(model.predict(ROWS))
                except TinyFleetError as error:
                    self.errors.append(error)

    def run_stream(self) -> None:
        """The same over one stream, which asks when it has its answer."""
        answered = threading.Semaphore(1)

        def questions() -> Iterator[np.ndarray[Any, Any]]:
            while answered.acquire(timeout=PATIENCE_S) and not self.stop.is_set():
                yield ROWS

        with LiveModel(self.address) as model:
            try:
                for answer in model.predict_each(questions()):
                    self.answers.append(answer)
                    answered.release()
            except TinyFleetError as error:
                self.errors.append(error)


@asynccontextmanager
async def asked_on_and_on(address: str) -> AsyncIterator[list[Asker]]:
    stop = threading.Event()
    askers = [Asker(address, stop) for _ in range(CLIENTS)]
    ways = [asker.run_stream if index % 2 else asker.run for index, asker in enumerate(askers)]
    asking = [asyncio.create_task(asyncio.to_thread(way)) for way in ways]
    try:
        yield askers
    finally:
        stop.set()
        await asyncio.gather(*asking)


@pytest.mark.slow
async def test_no_question_is_lost_while_models_are_replaced_and_each_answer_is_its_model_s(
    caplog: pytest.LogCaptureFixture,
) -> None:
    models = {parameters_sha256(model): model for model in map(trained, range(ROUNDS))}
    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        async with asked_on_and_on(f.address) as askers:
            for index in range(1, ROUNDS // 2):
                await f.round(visit, index)
            visit.end()  # the agent loses its coordinator, and comes back to it
            visit = await f.visit()
            for index in range(ROUNDS // 2, ROUNDS):
                await f.round(visit, index)
            last = await f.ask()
    assert last.version.number == ROUNDS
    answers = [answer for asker in askers for answer in asker.answers]
    assert [error for asker in askers for error in asker.errors] == []
    assert len({answer.version.number for answer in answers}) > ROUNDS // 10
    for answer in answers:
        model = models[answer.version.parameters_sha256]
        assert np.array_equal(answer.outputs, LEARNER.predict(model, ROWS))
        assert np.array_equal(model, trained(answer.version.round))
    for asker in askers:
        assert asker.answers
        numbers = [answer.version.number for answer in asker.answers]
        assert numbers == sorted(numbers)


async def test_model_answers_once_there_is_one_and_says_what_it_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(caplog) as f:
        visit = await f.visit()
        with pytest.raises(Refused, match="it has one once it has trained a round since it began"):
            await f.ask()
        await f.round(visit, 7)
        answer = await f.ask()
        assert np.array_equal(answer.outputs, LEARNER.predict(trained(7), ROWS))
        with LiveModel(f.address) as model:
            about = await asyncio.to_thread(model.describe)
        assert about.version == answer.version
        assert (answer.version.run_id, answer.version.round) == (RUN, 7)
        assert (about.agent, about.task, about.outputs) == ("pi-1", "sine", 1)
        assert (about.input_height, about.input_width, about.input_channels) == (1, 1, 1)
        assert about.training_loss > 0


async def test_question_is_not_kept_waiting_by_training(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        visit.assign(RUN, 1, LONG_PLAN, START)
        for _ in range(20):
            assert (await f.ask()).version.round == 0
        assert f.fleet.aggregator.updates.empty()
        await f.fleet.update()
        assert (await f.ask()).version.round == 1


async def test_model_goes_on_answering_without_a_coordinator(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        f.fleet.coordinator.refusals = [(grpc.StatusCode.UNAVAILABLE, "gone")] * 100
        visit.end()
        await soon(visit.left.wait())
        for _ in range(5):
            assert (await f.ask()).version.round == 0


async def test_what_boards_adapt_stays_there_and_the_error_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {"no_host_training": True, "device": ("tcp://127.0.0.1:1",)}
    async with fleet(caplog, **settings) as f:
        with pytest.raises(Refused, match="start the agent without --no-host-training"):
            await f.ask()


async def test_what_is_asked_wrongly_is_told_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        async with grpc.aio.insecure_channel(f.address) as channel:
            stub = prediction_pb2_grpc.PredictionServiceStub(channel)
            for inputs, count in ((b"", 0), (b"12345", 1), (b"\0" * (1 << 20) + b"\0" * 4, 1024)):
                request = prediction_pb2.PredictRequest(inputs=inputs, count=count)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await stub.Predict(request)
                assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
                assert "\n" not in (refused.value.details() or "\n")
            unknown = channel.unary_unary("/tinyfleet.v1.PredictionService/Predict")
            with pytest.raises(grpc.aio.AioRpcError):
                await unknown(b"\xff\xff\xff")  # no message
        assert (await f.ask()).version.round == 0


async def test_stream_answers_in_order_and_ends_with_the_question_that_is_refused(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def ask_each() -> None:
        with LiveModel(f.address) as model:
            parts = [ROWS[:count] for count in (1, 16, 3)]
            for count, answer in zip((1, 16, 3), model.predict_each(parts), strict=True):
                assert np.array_equal(answer.outputs, LEARNER.predict(trained(0), ROWS[:count]))
            refused = np.array([[0], [np.inf]], np.float32)
            answers = model.predict_each([ROWS, refused])
            assert np.array_equal(next(answers).outputs, LEARNER.predict(trained(0), ROWS))
            with pytest.raises(InvalidInput, match="unlike those of sample 1"):
                next(answers)

    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        await asyncio.to_thread(ask_each)


async def test_callers_that_vanish_are_nobody_s_trouble(caplog: pytest.LogCaptureFixture) -> None:
    async with fleet(caplog) as f:
        visit = await f.visit()
        await f.round(visit, 0)
        question = prediction_pb2.PredictStreamRequest(inputs=ROWS.tobytes(), count=len(ROWS))
        bad = prediction_pb2.PredictStreamRequest(count=1)
        for last in (question, bad):
            for _ in range(10):
                async with grpc.aio.insecure_channel(f.address) as channel:
                    call = prediction_pb2_grpc.PredictionServiceStub(channel).PredictStream()
                    await call.write(question)
                    await call.read()
                    await call.write(last)  # and is gone
        assert (await f.ask()).version.round == 0
    assert not [one for one in caplog.records if one.levelname == "ERROR" and one.name in OUR_LOGS]


async def test_address_that_is_taken_ends_the_agent_with_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with fleet(caplog) as f:
        settings = AgentSettings(coordinator="127.0.0.1:1", name="pi-2", predict=f.address)
        with pytest.raises(InvalidInput, match="the port is taken; choose another --predict"):
            await Agent(settings).run(asyncio.Event())
    with pytest.raises(Unreachable, match="start one with --predict"):
        await f.ask()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Certificates of two agents, an operator, a service, and another site's operator."""
    folder = tmp_path_factory.mktemp("site")
    authority = Authority.create(folder / "ca", "site")
    for bearer in (
        Bearer("agent", "pi-1"),
        Bearer("agent", "pi-2"),
        Bearer("operator", "desk"),
        Bearer("service", "metrics"),
    ):
        authority.issue_folder(bearer, folder / bearer.name)
    other = Authority.create(folder / "other", "another site")
    other.issue_folder(Bearer("operator", "eve"), folder / "eve")
    return folder


async def test_over_tls_operators_and_the_agent_itself_are_answered_and_nobody_else(
    caplog: pytest.LogCaptureFixture, site: Path
) -> None:
    caplog.set_level("INFO", "prediction")
    personal = Personal()
    draw = SlotSamples(TaskSource(SINE, SPEC.seed), SPEC.seed, 0, 0, RUN)
    predictor = Predictor.of(SPEC.model, lambda: make_learner(SPEC.model))
    personal.hearing(SPEC, predictor)(trained(0), 0.5, draw)
    settings = AgentSettings(name="pi-1", predict="127.0.0.1:0", tls=site / "pi-1")
    async with predicting(settings, personal):
        address = await said_where(caplog)

        async def answer(who: str, agent: str = "") -> Prediction:
            return await asyncio.to_thread(ask, address, site / who, agent)

        for who in ("desk", "pi-1"):
            assert (await answer(who, "pi-1")).version.round == 0
        for who in ("pi-2", "metrics"):
            with pytest.raises(Refused, match="may not call Predict: that is for operators and pi"):
                await answer(who)
            with pytest.raises(Refused, match="may not call PredictStream"):
                await asyncio.to_thread(ask_by_stream, address, site / who)
        with pytest.raises(Refused, match="does not name"):
            await answer("eve")
        with pytest.raises(Refused, match="that of another service"):
            await answer("desk", "pi-2")
        with pytest.raises(Refused, match="give --tls"):
            await asyncio.to_thread(ask, address)


async def test_certificate_that_no_caller_would_take_is_refused_at_the_start(
    caplog: pytest.LogCaptureFixture, site: Path
) -> None:
    settings = AgentSettings(
        coordinator="127.0.0.1:1", name="pi-1", predict="127.0.0.1:0", tls=site / "desk"
    )
    with pytest.raises(InvalidInput, match="tinyfleet ca issue agent NAME"):
        await Agent(settings).run(asyncio.Event())


async def test_command_asks_describes_and_writes(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    np.savez(tmp_path / "new.npz", inputs=np.linspace(-3, 3, 3000))
    out = tmp_path / "out" / "answers.npz"
    inputs = ["--inputs", str(tmp_path / "new.npz")]

    async def run(*words: str) -> int:
        return await asyncio.to_thread(program.run, ["predict", *words])

    async with fleet(caplog) as f:
        visit = await f.visit()
        assert await run(f.address) == 4
        assert "no model of its own yet" in capsys.readouterr().err
        await f.round(visit, 3)
        assert await run(f.address) == 0
        printed = capsys.readouterr().out
        assert printed.startswith("mlp_32 of pi-1: 1x1x1 inputs, 1 outputs\n")
        assert f"sha256 {parameters_sha256(trained(3))}" in printed
        assert await run(f.address, *inputs, "--out", str(out), "--json") == 0
        document = json.loads(capsys.readouterr().out)
        rows = np.linspace(-3, 3, 3000).astype(np.float32)[:, np.newaxis]
        expected = LEARNER.predict(trained(3), rows)
        assert np.array_equal(np.array(document["outputs"], np.float32), expected)
        assert document["rounds"] == [3] * 3000
        assert [one["number"] for one in document["models"]] == [1]
        with np.load(out) as written:
            assert np.array_equal(written["outputs"], expected)
            assert written["round"].tolist() == [3] * 3000
        assert await run(f.address, *inputs) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].split() == ["sample", "outputs", "round"]
        assert len(lines) == 3002
        np.savez(tmp_path / "new.npz", inputs=np.zeros((2, 3)))
        assert await run(f.address, *inputs) == 2
        assert "has 3 values a sample, the model takes 1x1x1" in capsys.readouterr().err
        np.savez(tmp_path / "new.npz", inputs=np.array([0.0] * 1500 + [np.nan]))
        assert await run(f.address, *inputs) == 2
        assert "samples from 1024 on: inputs must be finite" in capsys.readouterr().err
        assert await run(f.address, "--out", str(out)) == 2
    assert await run(f.address) == 3


async def test_agent_that_is_not_asked_to_answer_loads_nothing_for_it() -> None:
    code = """
import asyncio, sys
from edge_agents.agent import Agent
from edge_agents.settings import AgentSettings
agent = Agent(AgentSettings(coordinator='127.0.0.1:1', name='pi-1', give_up_s=0.1))
try:
    asyncio.run(agent.run(asyncio.Event()))
except Exception as error:
    print(type(error).__name__, [name for name in sys.modules if 'prediction' in name])
"""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code), cwd=ROOT, stdout=PIPE
    )
    said, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert said.decode().strip() == "GaveUp []"

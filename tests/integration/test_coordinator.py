"""A coordinator and an aggregator on real sockets, with agents that answer every assignment.

The agents train nothing: they send updates of zeros, which the aggregator takes like any other.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import grpc
import pytest

import services.aggregator.main as aggregator_main
import services.coordinator.main as coordinator_main
from services.aggregator.settings import AggregatorSettings
from services.coordinator import servicer
from services.coordinator.settings import CoordinatorSettings
from services.hosting.server import serving
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as ag
from tinyfleet.v1 import aggregator_pb2_grpc, coordinator_pb2_grpc
from tinyfleet.v1 import coordinator_pb2 as co
from tinyfleet.wire import run_to_message

ZEROS = bytes(4 * 1153)  # an update of mlp_32
PATIENCE_S = 20.0


class Hosted:
    """A service that can be stopped and started again at the same address, on the same state."""

    def __init__(self, build, settings):
        self._build, self.settings = build, settings

    @property
    def address(self):
        return self.settings.listen

    async def start(self):
        service = self._build(self.settings)
        self._stack = contextlib.AsyncExitStack()
        self._stack.push_async_callback(service.close)
        address = await self._stack.enter_async_context(serving(self.settings, service))
        await service.start()
        self.settings = replace(self.settings, listen=address)

    async def stop(self):
        stack, self._stack = self._stack, contextlib.AsyncExitStack()
        await stack.aclose()


class Services:
    """Both services and a client of the coordinator."""

    def __init__(self, folder):
        self.aggregator = Hosted(
            aggregator_main.build,
            AggregatorSettings(
                listen="127.0.0.1:0", state=folder / "aggregator", metrics="", drain_s=0.5
            ),
        )
        self._folder = folder
        self.agents = []

    async def start(self, **settings):
        await self.aggregator.start()
        self.coordinator = Hosted(
            coordinator_main.build,
            CoordinatorSettings(
                listen="127.0.0.1:0",
                state=self._folder / "coordinator",
                aggregator=self.aggregator.address,
                metrics="",
                **settings,
            ),
        )
        await self.coordinator.start()
        self._channel = grpc.aio.insecure_channel(
            self.coordinator.address, options=[("grpc.max_reconnect_backoff_ms", 100)]
        )
        self.stub = coordinator_pb2_grpc.CoordinatorServiceStub(self._channel)

    async def stop(self):
        for agent in self.agents:
            await agent.stop()
        await self._channel.close()
        await self.coordinator.stop()
        await self.aggregator.stop()

    def agent(self, name, **options):
        agent = ScriptedAgent(name, self, **options)
        self.agents.append(agent)
        return agent

    async def create(self, rounds=5, slots=1, request_id="one", **overlapping):
        message = overlapping_spec(rounds, **overlapping) if overlapping else spec(rounds, slots)
        request = co.CreateRunRequest(request_id=request_id, spec=message)
        return (await self.stub.CreateRun(request)).run

    async def run(self, run_id):
        return (await self.stub.GetRun(co.GetRunRequest(run_id=run_id))).run

    async def agents_by_name(self):
        answer = await self.stub.ListAgents(co.ListAgentsRequest())
        return {agent.name: agent for agent in answer.agents}

    async def until_attached(self, name):
        async with asyncio.timeout(PATIENCE_S):
            while name not in await self.agents_by_name():  # noqa: ASYNC110 - over RPC
                await asyncio.sleep(0.02)

    async def until(self, run_id, condition):
        """The run, as soon as it is as wished."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition(run := await self.run(run_id)):  # noqa: ASYNC110 - over RPC
                await asyncio.sleep(0.02)
        return run

    async def finish(self, run_id):
        ended = (co.RUN_STATUS_FINISHED, co.RUN_STATUS_FAILED, co.RUN_STATUS_STOPPED)
        run = await self.until(run_id, lambda run: run.status in ended and run.parameters_sha256)
        assert run.status == co.RUN_STATUS_FINISHED, run.message
        return run


class ScriptedAgent:
    """Attends, again and again, and answers assignments unless told not to."""

    def __init__(self, name, services, answers=True, instance="one", comes_back=True):
        self.name, self.instance, self.answers = name, instance, answers
        self.in_hand, self.withdrawn, self.told = {}, [], []
        self.error = None
        self._services, self._comes_back = services, comes_back
        self._task = asyncio.create_task(self._attend_forever())

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition(self):  # noqa: ASYNC110 - conditions are many, and tests only
                await asyncio.sleep(0.01)

    async def _attend_forever(self):
        while self.error is None or self._comes_back:
            try:
                await self._attend()
            except grpc.aio.AioRpcError as error:
                self.error = error
            except asyncio.InvalidStateError:  # the stream of updates is over: dial again
                pass
            await asyncio.sleep(0.05)

    async def _attend(self):
        async with (
            grpc.aio.insecure_channel(self._services.coordinator.address) as channel,
            grpc.aio.insecure_channel(self._services.aggregator.address) as other,
        ):
            updates = aggregator_pb2_grpc.AggregatorServiceStub(other).SubmitUpdates()
            call = coordinator_pb2_grpc.CoordinatorServiceStub(channel).Attend()
            await call.write(hello(self.name, self.instance, self.in_hand))
            receipts = asyncio.create_task(self._take_receipts(updates))
            try:
                for held in list(self.in_hand.values()):
                    await self._answer(updates, held)
                await self._listen(call, updates)
            finally:
                receipts.cancel()

    async def _listen(self, call, updates):
        while (message := await call.read()) is not grpc.aio.EOF:
            kind = message.WhichOneof("message")
            self.told.append(kind)
            if kind == "assignment":
                self.in_hand[message.assignment.assignment_id] = message.assignment
                await self._answer(updates, message.assignment)
            elif kind == "withdrawal":
                self.in_hand.pop(message.withdrawal.assignment_id, None)
                self.withdrawn.append(message.withdrawal.assignment_id)

    async def _answer(self, updates, assignment):
        if not self.answers:
            return
        header = ag.UpdateHeader(
            assignment_id=assignment.assignment_id,
            run_id=assignment.run_id,
            round=assignment.round,
            slot=assignment.slot,
            base_version=assignment.base_version,
            total_bytes=len(ZEROS),
            encoding=ag.UPDATE_ENCODING_DENSE_FLOAT32,
            samples=32,
            loss=0.5,
            training_us=1000,
        )
        await updates.write(ag.SubmitUpdatesRequest(header=header, data=ZEROS))

    async def _take_receipts(self, updates):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while (receipt := await updates.read()) is not grpc.aio.EOF:
                if receipt.status != ag.RECEIPT_STATUS_RETRY:
                    self.in_hand.pop(receipt.assignment_id, None)


def hello(name, instance="one", in_hand=()):
    message = co.Hello(agent=name, instance_id=instance, assignment_ids=list(in_hand))
    return co.AttendRequest(hello=message)


def spec(rounds=5, slots=1):
    task = make_task("sine", {})
    if slots == 1:
        return run_to_message(make_run(task, "tiny_reptile", rounds, 1, "mlp_32"))
    options = {"agents_per_round": slots}
    return run_to_message(make_run(task, "reptile", rounds, 1, "mlp_32", options))


def overlapping_spec(rounds, **options):
    return run_to_message(make_run(make_task("sine", {}), "fed_buff", rounds, 1, "mlp_32", options))


@pytest.fixture
async def services(tmp_path):
    services = Services(tmp_path)
    await services.start(heartbeat_s=5, round_deadline_s=5)
    yield services
    await services.stop()


async def refusal(call):
    """The status and the text a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value.code(), caught.value.details()


async def attendance(services, *messages):
    """Write messages on a new Attend stream, then read until it ends."""
    call = services.stub.Attend()
    for message in messages:
        await call.write(message)
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_run_finishes_and_its_followers_are_told(services):
    agents = [services.agent(name) for name in "abc"]
    run = await services.create(rounds=20, slots=4)
    states = [
        response.run
        async for response in services.stub.WatchRun(co.WatchRunRequest(run_id=run.run_id))
    ]
    last = states[-1]
    assert (last.status, last.rounds_done) == (co.RUN_STATUS_FINISHED, 20)
    assert len(last.parameters_sha256) == 64
    assert last.bytes_up == last.bytes_down == 20 * 4 * len(ZEROS)
    assert last.samples == 20 * 4 * 32
    assert last.loss == 0.5
    assert last.HasField("end_time")
    known = await services.agents_by_name()
    assert sum(agent.updates for agent in known.values()) == 80
    assert all(agent.told[1] == "run_brief" for agent in agents if len(agent.told) > 1)


async def test_create_run_is_idempotent_by_request_id(services):
    first = await services.create(rounds=1000)
    assert (await services.create(rounds=1000)).run_id == first.run_id
    answer = await services.stub.ListRuns(co.ListRunsRequest())
    assert [run.run_id for run in answer.runs] == [first.run_id]


async def test_request_id_cannot_name_two_specs(services):
    await services.create(rounds=1000)
    status, text = await refusal(services.create(rounds=1001))
    assert status is grpc.StatusCode.ALREADY_EXISTS
    assert "choose a new one" in text


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"task": "sinus"}, "did you mean 'sine'?"),
        ({"strategy": "tiny_reptil"}, "did you mean 'tiny_reptile'?"),
        ({"rounds": 0}, "rounds must be 1 to"),
    ],
)
async def test_spec_that_cannot_run_is_refused(services, change, text):
    message = spec()
    for name, value in change.items():
        setattr(message, name, value)
    request = co.CreateRunRequest(request_id="one", spec=message)
    status, details = await refusal(services.stub.CreateRun(request))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert text in details


@pytest.mark.parametrize("request_id", ["", "x" * 65, "a\nb"])
async def test_bad_request_id_is_refused(services, request_id):
    status, _ = await refusal(services.create(request_id=request_id))
    assert status is grpc.StatusCode.INVALID_ARGUMENT


async def test_unknown_run_is_not_found(services):
    for call in (
        services.stub.GetRun(co.GetRunRequest(run_id="nothing")),
        services.stub.StopRun(co.StopRunRequest(run_id="nothing")),
        services.stub.WatchRun(co.WatchRunRequest(run_id="nothing")).read(),
    ):
        status, _ = await refusal(call)
        assert status is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "messages",
    [
        [co.AttendRequest()],
        [co.AttendRequest(heartbeat=co.Heartbeat())],
        [hello("no spaces")],
        [hello("")],
        [hello("a", instance="")],
        [hello("a", in_hand=["x"] * 65)],
        [hello("a"), hello("a")],
        [hello("a"), co.AttendRequest(decline=co.Decline(reason="x" * 300))],
    ],
)
async def test_agent_that_breaks_the_contract_is_refused(services, messages):
    status, _ = await refusal(attendance(services, *messages))
    assert status is grpc.StatusCode.INVALID_ARGUMENT


async def test_agent_that_says_no_hello_is_refused(services, monkeypatch):
    monkeypatch.setattr(servicer, "HELLO_S", 0.05)
    status, text = await refusal(attendance(services))
    assert status is grpc.StatusCode.INVALID_ARGUMENT
    assert "no hello" in text


async def test_second_process_takes_over_the_name(services):
    first = services.agent("a", comes_back=False)
    await first.until(lambda agent: "welcome" in agent.told)
    second = services.agent("a", instance="two")
    await first.until(lambda agent: agent.error)
    assert first.error.code() is grpc.StatusCode.ABORTED
    assert "another process attached as 'a'" in first.error.details()
    await second.until(lambda agent: "welcome" in agent.told)
    known = await services.agents_by_name()
    assert [agent.attached for agent in known.values()] == [True]


async def test_fleet_has_a_limit(tmp_path):
    services = Services(tmp_path)
    await services.start(max_agents=1)
    first = services.agent("a")
    await first.until(lambda agent: "welcome" in agent.told)
    status, text = await refusal(attendance(services, hello("b")))
    assert status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "--max-agents" in text
    await services.stop()


async def test_silent_agent_loses_its_stream_and_its_work(tmp_path):
    services = Services(tmp_path)
    await services.start(heartbeat_s=0.4)
    silent = services.agent("a", answers=False, comes_back=False)
    run = await services.create(rounds=1)
    await silent.until(lambda agent: agent.error)
    assert silent.error.code() is grpc.StatusCode.UNAVAILABLE
    services.agent("b")
    await services.finish(run.run_id)
    await services.stop()


async def test_run_waits_for_an_agent_and_says_so(services):
    run = await services.create(rounds=2)
    waiting = await services.until(run.run_id, lambda run: "agent" in run.message)
    assert waiting.message == "waiting for an agent: none is attached"
    services.agent("a")
    assert (await services.finish(run.run_id)).message == ""


async def test_run_waits_for_the_aggregator_and_says_so(services):
    services.agent("a")
    await services.aggregator.stop()
    run = await services.create(rounds=3)
    waiting = await services.until(run.run_id, lambda run: "aggregator" in run.message)
    assert waiting.status == co.RUN_STATUS_PENDING
    assert f"waiting for the aggregator at {services.aggregator.address}" in waiting.message
    await services.aggregator.start()
    await services.finish(run.run_id)


async def test_run_goes_on_after_the_aggregator_restarts(services):
    for name in "ab":
        services.agent(name)
    run = await services.create(rounds=150, slots=2)
    await services.until(run.run_id, lambda run: run.rounds_done >= 20)
    await services.aggregator.stop()
    await services.aggregator.start()
    last = await services.finish(run.run_id)
    assert (last.rounds_done, last.samples) == (150, 150 * 2 * 32)


async def test_run_goes_on_after_the_coordinator_restarts(services):
    for name in "ab":
        services.agent(name)
    run = await services.create(rounds=150, slots=2)
    await services.until(run.run_id, lambda run: run.rounds_done >= 20)
    await services.coordinator.stop()
    await services.coordinator.start()
    last = await services.finish(run.run_id)
    assert last.rounds_done == 150
    assert last.create_time == run.create_time
    assert (last.samples, last.bytes_up) == (150 * 2 * 32, 150 * 2 * len(ZEROS))


async def test_a_silent_agent_holds_up_no_version_where_rounds_overlap(services):
    silent = services.agent("silent", answers=False)
    await services.until_attached("silent")
    run = await services.create(rounds=60, buffer=2, concurrency=3, max_staleness=10)
    await silent.until(lambda agent: agent.in_hand)
    for name in "ab":
        services.agent(name)
    await services.until(run.run_id, lambda run: run.rounds_done >= 30)
    assert "-0-0-0" in silent.withdrawn[0]
    silent.answers = True
    last = await services.finish(run.run_id)
    assert (last.rounds_done, last.samples) == (60, 60 * 2 * 32)


async def test_overlapping_rounds_go_on_after_either_service_restarts(services):
    for name in "abc":
        services.agent(name)
    run = await services.create(rounds=150, buffer=2, concurrency=4, max_staleness=10)
    for rounds, service in ((20, services.aggregator), (60, services.coordinator)):
        await services.until(run.run_id, lambda run, most=rounds: run.rounds_done >= most)
        await service.stop()
        await service.start()
    last = await services.finish(run.run_id)
    assert (last.rounds_done, last.samples) == (150, 150 * 2 * 32)
    assert last.bytes_up == 150 * 2 * len(ZEROS)


async def test_work_in_hand_survives_a_restart_of_the_coordinator(services):
    agent = services.agent("a", answers=False)
    run = await services.create(rounds=1)
    await agent.until(lambda agent: agent.in_hand)
    (held,) = agent.in_hand
    await services.coordinator.stop()
    agent.answers = True
    await services.coordinator.start()
    await services.finish(run.run_id)
    assert agent.told.count("assignment") == 1
    assert held.endswith("-0-0-0")


async def test_stop_withdraws_the_work_and_keeps_the_model(services):
    agent = services.agent("a", answers=False)
    run = await services.create(rounds=10)
    await agent.until(lambda agent: agent.in_hand)
    request = co.StopRunRequest(run_id=run.run_id)
    stopped = (await services.stub.StopRun(request)).run
    assert stopped.status == co.RUN_STATUS_STOPPED
    assert len(stopped.parameters_sha256) == 64
    await agent.until(lambda agent: agent.withdrawn)
    assert (await services.stub.StopRun(request)).run == stopped
    states = [response.run async for response in services.stub.WatchRun(
        co.WatchRunRequest(run_id=run.run_id)
    )]  # fmt: skip
    assert states == [stopped]


async def test_stop_holds_when_the_aggregator_is_away_and_both_restart(services, monkeypatch):
    monkeypatch.setattr("services.coordinator.coordinator.STOP_S", 0.2)
    run = await services.create(rounds=10)
    await services.until(run.run_id, lambda run: "agent" in run.message)
    await services.aggregator.stop()
    stopped = (await services.stub.StopRun(co.StopRunRequest(run_id=run.run_id))).run
    assert stopped.status == co.RUN_STATUS_STOPPED
    await services.coordinator.stop()
    await services.aggregator.start()
    await services.coordinator.start()
    last = await services.until(run.run_id, lambda run: run.parameters_sha256)
    assert last.status == co.RUN_STATUS_STOPPED
    assert last.end_time == stopped.end_time


async def test_two_runs_share_the_fleet(services):
    for name in "abc":
        services.agent(name)
    first = await services.create(rounds=40, slots=3, request_id="one")
    second = await services.create(rounds=40, slots=2, request_id="two")
    for run in (first, second):
        assert (await services.finish(run.run_id)).rounds_done == 40


async def test_agents_are_remembered_after_a_restart(services):
    agent = services.agent("a")
    await agent.until(lambda agent: "welcome" in agent.told)
    await agent.stop()
    await services.coordinator.stop()
    await services.coordinator.start()
    known = await services.agents_by_name()
    assert not known["a"].attached
    assert known["a"].last_seen_time.seconds > 1_600_000_000


async def test_state_folder_serves_one_coordinator(services):
    other = Hosted(
        coordinator_main.build, replace(services.coordinator.settings, listen="127.0.0.1:0")
    )
    with pytest.raises(Exception, match="in use by process"):
        await other.start()

"""An agent between a coordinator and an aggregator that the test plays, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from agent_peers import AggregatorPeer, CoordinatorPeer, MetricsPeer, Visit, listening

from edge_agents.agent import Agent
from edge_agents.session import GaveUp, Superseded
from edge_agents.settings import AgentSettings
from tinyfleet.codec.start import Start
from tinyfleet.errors import InvalidInput
from tinyfleet.exchange import Exchange, exchange_of
from tinyfleet.learner import Samples, make_learner, run_plan
from tinyfleet.model.layers import Dense, ReLU
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.run import RunSpec, make_run, training_samples
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as agg
from tinyfleet.v1 import coordinator_pb2 as co

PATIENCE_S = 20.0
QUIET_S = 0.3
SINE = make_task("sine", {})
SPEC = make_run(SINE, "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan((Phase(samples=32, rate=0.01),))
SLOW_PLAN = TrainingPlan((Phase(samples=32, rate=0.0001),))  # for models that diverge with PLAN
LONG_PLAN = TrainingPlan((Phase(samples=1000, rate=0.001, passes=300),))  # 0.1 s and more
RUN = "run"
# gRPC has one poller for all tests: what it hears late for the one before, whose event loop is
# closed by then, it logs with a traceback while this one runs.
OUR_LOGS = {"agent", "board", "delivery", "session", "work"}


async def soon(waiting: Any) -> Any:
    """What is awaited, if it comes in time."""
    return await asyncio.wait_for(waiting, PATIENCE_S)


async def stays_empty(queue: asyncio.Queue[Any]) -> bool:
    await asyncio.sleep(QUIET_S)
    return queue.empty()


@dataclass
class Fleet:
    """A running agent and its peers."""

    coordinator: CoordinatorPeer
    aggregator: AggregatorPeer
    settings: AgentSettings
    stop: asyncio.Event
    agent: asyncio.Task[None]

    async def visit(self) -> Visit:
        return await soon(self.coordinator.visits.get())

    async def update(self) -> tuple[agg.UpdateHeader, bytes]:
        return await soon(self.aggregator.updates.get())

    async def leave(self) -> None:
        self.stop.set()
        await soon(self.agent)


@asynccontextmanager
async def fleet(
    aggregator: AggregatorPeer | None = None,
    heartbeat_ms: int = 10_000,
    metrics: str = "",
    **settings: Any,
) -> AsyncIterator[Fleet]:
    """An agent that attends, with its peers; ends it unless the test has done so."""
    aggregator = aggregator or AggregatorPeer()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(listening(aggregator=aggregator))
        coordinator = CoordinatorPeer(address, heartbeat_ms, metrics)
        address = await stack.enter_async_context(listening(coordinator=coordinator))
        chosen = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.2, **settings)
        stop = asyncio.Event()
        agent = asyncio.create_task(Agent(chosen).run(stop))
        try:
            yield Fleet(coordinator, aggregator, chosen, stop, agent)
        finally:
            stop.set()
            await asyncio.gather(agent, return_exceptions=True)


def expected_delta(round: int, plan: TrainingPlan = PLAN) -> Parameters:
    trained = START.copy()
    samples = training_samples(SINE, SPEC.seed, round, 0, plan.samples)
    run_plan(make_learner(SPEC.model), trained, samples, plan)
    return trained - START


async def test_update_is_what_the_simulator_would_have_made() -> None:
    async with fleet() as f:
        visit = await f.visit()
        assert visit.hello.agent == "pi-1"
        assert visit.hello.capabilities.tasks == ["sine"]
        visit.brief(RUN, SPEC)
        for index in range(3):  # the first in the thread, then on the event loop
            expected_id = visit.assign(RUN, index, PLAN, START)
            header, data = await f.update()
            assert (header.assignment_id, header.round) == (expected_id, index)
            assert (header.samples, header.diverged) == (32, False)
            assert data == expected_delta(index).astype("<f4").tobytes()
        assert f.aggregator.messages == 3  # a small update is one message


async def test_reconnect_says_what_is_in_hand() -> None:
    aggregator = AggregatorPeer(answer=lambda key, times: 0)  # no receipt
    async with fleet(aggregator, drain_s=0.1) as f:
        visit = await f.visit()
        assert list(visit.hello.assignment_ids) == []
        visit.brief(RUN, SPEC)
        expected_id = visit.assign(RUN, 0, PLAN, START)
        await f.update()
        visit.end()
        again = await f.visit()
        assert list(again.hello.assignment_ids) == [expected_id]
        assert again.hello.instance_id == visit.hello.instance_id


async def test_update_without_receipt_is_sent_again_when_the_aggregator_is_back() -> None:
    deaf = AggregatorPeer(answer=lambda key, times: 0)
    async with AsyncExitStack() as stack:
        coordinator = CoordinatorPeer("")
        address = await stack.enter_async_context(listening(coordinator=coordinator))
        first = AsyncExitStack()
        coordinator.welcome.aggregator = await first.enter_async_context(listening(aggregator=deaf))
        stop = asyncio.Event()
        settings = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.2)
        agent = asyncio.create_task(Agent(settings).run(stop))
        visit = await soon(coordinator.visits.get())
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        lost = await soon(deaf.updates.get())
        await first.aclose()
        back = AggregatorPeer()
        async with listening(aggregator=back, address=coordinator.welcome.aggregator):
            assert await soon(back.updates.get()) == lost
            stop.set()
            await soon(agent)
            assert list(back.times.values()) == [1]


async def test_retry_receipt_is_tried_again_until_accepted() -> None:
    def answer(key: str, times: int) -> int:
        return agg.RECEIPT_STATUS_RETRY if times < 3 else agg.RECEIPT_STATUS_ACCEPTED

    async with fleet(AggregatorPeer(answer)) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        sent = [await f.update() for _ in range(3)]
        assert sent[0] == sent[1] == sent[2]
        await f.leave()
        assert f.aggregator.updates.empty()


@pytest.mark.parametrize("status", [agg.RECEIPT_STATUS_LATE, agg.RECEIPT_STATUS_INVALID])
async def test_refused_update_is_forgotten_and_work_goes_on(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with fleet(AggregatorPeer(lambda key, times: status)) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        await f.update()
        visit.assign(RUN, 1, PLAN, START)
        await f.update()
        await f.leave()
        assert set(f.aggregator.times.values()) == {1}
    (record,) = [r for r in caplog.records if r.name == "delivery" and "update" in r.message][:1]
    assert record.fields["reason"] == "the test says so"


FED_PLAN = TrainingPlan(PLAN.phases, upload=Upload(0.1, "int8", error_feedback=True))


def fed_updates(outcomes: list[int]) -> list[bytes]:
    """The updates of the first rounds, each with its receipt's status."""
    exchange = Exchange(SPEC.model, FED_PLAN)
    feedback, updates = exchange.no_feedback(), []
    for number, status in enumerate(outcomes):
        delta = expected_delta(number)
        data, feedback = exchange.encode_fed(delta, feedback, SPEC.seed, number, 0)
        if status != agg.RECEIPT_STATUS_ACCEPTED:
            feedback = feedback.with_refused(exchange.decode(data))
        updates.append(data)
    return updates


@pytest.mark.parametrize(
    "second",
    [agg.RECEIPT_STATUS_ACCEPTED, agg.RECEIPT_STATUS_LATE, agg.RECEIPT_STATUS_INVALID],
)
async def test_what_updates_left_out_or_did_not_bring_is_in_the_next_one(second: int) -> None:
    outcomes = [agg.RECEIPT_STATUS_ACCEPTED, second, agg.RECEIPT_STATUS_ACCEPTED]
    answers = iter(outcomes)
    async with fleet(AggregatorPeer(lambda key, times: next(answers))) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        sent = []
        for index in range(3):
            visit.assign(RUN, index, FED_PLAN, START)
            sent.append((await f.update())[1])
            await asyncio.sleep(QUIET_S)  # its receipt is there before the next assignment
        assert sent == fed_updates(outcomes)
        assert len(set(sent)) == 3


async def test_agent_that_restarts_has_left_nothing_out() -> None:
    firsts = []
    for _ in range(2):
        async with fleet() as f:
            visit = await f.visit()
            visit.brief(RUN, SPEC)
            visit.assign(RUN, 0, FED_PLAN, START)
            firsts.append((await f.update())[1])
            visit.assign(RUN, 1, FED_PLAN, START)
            await f.update()
    assert firsts == fed_updates([agg.RECEIPT_STATUS_ACCEPTED]) * 2


async def test_diverged_training_reports_so_and_sends_nothing_else() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, TrainingPlan((Phase(samples=500, rate=10.0),)), START)
        header, data = await f.update()
        assert header.diverged
        assert (header.total_bytes, data, header.loss) == (0, b"", 0.0)


async def test_large_model_is_fetched_and_delivered_in_chunks() -> None:
    spec = make_run(SINE, "tiny_reptile", 100, 5, model=wide_model())
    start = spec.initial_parameters()
    async with fleet() as f:
        f.aggregator.model, f.aggregator.chunk_bytes = start, 100_000
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, SLOW_PLAN, None)
        header, data = await f.update()
        assert header.total_bytes == 4 * len(start) == len(data)
        assert f.aggregator.messages == -(-len(data) // (256 * 1024))
        trained = start.copy()
        samples = training_samples(SINE, spec.seed, 0, 0, 32)
        run_plan(make_learner(spec.model), trained, samples, SLOW_PLAN)
        assert data == (trained - start).astype("<f4").tobytes()


async def test_where_rounds_overlap_the_newest_model_is_fetched_and_its_version_said() -> None:
    spec = make_run(SINE, "fed_buff", 100, 5, model=wide_model())
    start = spec.initial_parameters()
    async with fleet() as f:
        f.aggregator.model, f.aggregator.newest = start, 9
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 4, SLOW_PLAN, None)
        header, data = await f.update()
    (asked,) = f.aggregator.fetched
    assert not asked.HasField("version")
    assert (header.round, header.base_version) == (4, 9)
    trained = start.copy()
    samples = training_samples(SINE, spec.seed, 4, 0, 32)
    run_plan(make_learner(spec.model), trained, samples, SLOW_PLAN)
    assert data == (trained - start).astype("<f4").tobytes()


@pytest.mark.parametrize("fetched", [False, True])
async def test_local_layers_stay_and_only_the_largest_changes_are_sent(fetched: bool) -> None:
    options = {"local_layers": 1, "precision": "int8", "inner_rate": 0.0001, "local_rate": 0.0001}
    spec = make_run(SINE, "tiny_meta_fed", 100, 5, wide_model(), options)
    plan, exchange = spec.make_strategy().plan(0), exchange_of(spec)
    start = spec.initial_parameters()
    start[: exchange.count] += np.float32(0.001)  # some later version: the local layer is the last
    shared = start[: exchange.count]
    async with fleet() as f:
        f.aggregator.model = shared
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 3, plan, None if fetched else shared)
        header, data = await f.update()
    assert [one.shared_only for one in f.aggregator.fetched] == [True] * fetched
    trained = start.copy()
    samples = training_samples(SINE, spec.seed, 3, 0, plan.samples)
    run_plan(make_learner(spec.model), trained, samples, plan)
    assert data == exchange.encode(trained - start, spec.seed, 3, 0)
    assert header.encoding == agg.UPDATE_ENCODING_SELECTED
    assert header.total_bytes == len(data) < len(shared) / 2


class Rounded:
    """A run whose starts are int8 and sent as changes, and what to expect of an agent in it."""

    def __init__(self, precision: str = "int8") -> None:
        options = {"local_layers": 1, "down_precision": precision, "changes_only": True}
        options |= {"inner_rate": 0.0001, "local_rate": 0.0001}
        self.spec = make_run(SINE, "tiny_meta_fed", 100, 5, "mlp_32", options)
        self.plan, self.exchange = self.spec.make_strategy().plan(0), exchange_of(self.spec)
        self.form = self.exchange.starts

    def start(self, version: int) -> Start:
        model = self.spec.initial_parameters()
        model[version::17] += np.float32(0.1)
        model[63:65] = 2.0  # the last of one layer, the first of the next: their scale stays
        return self.exchange.start(model)

    def whole(self, version: int) -> bytes:
        return self.form.write_whole(self.start(version))

    def changes(self, held: int, version: int) -> bytes:
        data = self.form.write_changes(self.start(held), self.start(version))
        assert data is not None
        return data

    def update(self, version: int) -> bytes:
        start = self.exchange.started(self.start(version), self.spec.initial_parameters())
        trained = start.copy()
        samples = training_samples(SINE, self.spec.seed, version, 0, self.plan.samples)
        run_plan(make_learner(self.spec.model), trained, samples, self.plan)
        return bytes(self.exchange.encode(trained - start, self.spec.seed, version, 0))


@pytest.mark.parametrize("precision", ["float16", "int8"])
async def test_a_round_starts_from_what_changed_since_the_last_start(precision: str) -> None:
    run = Rounded(precision)
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        header, data = await f.update()
        assert (data, header.HasField("start_bytes")) == (run.update(0), False)
        for held, version in ((0, 1), (1, 5), (5, 6)):  # versions may be skipped
            changes = run.changes(held, version)
            visit.assign_start(RUN, version, run.plan, changes, held)
            header, data = await f.update()
            assert (data, header.start_bytes) == (run.update(version), len(changes))


async def test_a_start_is_held_also_of_work_that_was_withdrawn() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.brief("long", SPEC)
        visit.assign("long", 0, LONG_PLAN, START)
        visit.withdraw(visit.assign_start(RUN, 0, run.plan, run.whole(0), None))
        visit.assign_start(RUN, 1, run.plan, run.changes(0, 1), 0)
        assert (await f.update())[0].run_id == "long"
        assert (await f.update())[1] == run.update(1)


async def test_changes_to_what_is_not_held_are_declined_for_the_moment() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        await f.update()
        for held in (7, 0):  # nothing is held after what made no sense
            visit.assign_start(RUN, 8, run.plan, run.changes(0, 8), held)
            decline = (await soon(visit.heard.get())).decline
            assert (decline.permanent, f"version {held} is not held" in decline.reason) == (0, 1)
        visit.assign_start(RUN, 8, run.plan, run.whole(8), None)
        assert (await f.update())[1] == run.update(8)


async def test_nothing_is_held_from_one_stream_to_the_next() -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, run.whole(0), None)
        await f.update()
        visit.end()
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 1, run.plan, run.changes(0, 1), 0)
        decline = (await soon(visit.heard.get())).decline
        assert (decline.permanent, "send all of the start" in decline.reason) == (False, True)


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: b"\x7f" + data[1:]])
async def test_a_start_that_cannot_be_read_is_declined_for_good(spoil: Any) -> None:
    run = Rounded()
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, run.spec)
        visit.assign_start(RUN, 0, run.plan, spoil(run.whole(0)), None)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "start" in decline.reason


async def test_a_large_start_is_fetched_in_the_precision_of_the_plan() -> None:
    options = {"down_precision": "int8", "inner_rate": 0.0001, "local_rate": 0.0001}
    spec = make_run(SINE, "tiny_meta_fed", 100, 5, wide_model(), options)
    plan, exchange = spec.make_strategy().plan(0), exchange_of(spec)
    start = exchange.start(spec.initial_parameters())
    async with fleet() as f:
        f.aggregator.start = exchange.starts.write_whole(start)
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, plan, None)
        header, data = await f.update()
    assert [one.shared_only for one in f.aggregator.fetched] == [True]
    begin = exchange.started(start, spec.initial_parameters())
    trained = begin.copy()
    samples = training_samples(SINE, spec.seed, 0, 0, plan.samples)
    run_plan(make_learner(spec.model), trained, samples, plan)
    assert data == exchange.encode(trained - begin, spec.seed, 0, 0)
    assert not header.HasField("start_bytes")


async def test_model_of_the_wrong_size_is_declined_for_good() -> None:
    spec = make_run(SINE, "tiny_reptile", 100, 5, model=wide_model())
    async with fleet() as f:
        f.aggregator.model = START
        visit = await f.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, PLAN, None)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "bytes" in decline.reason


def wide_model() -> ModelSpec:
    layers = (Dense(300), ReLU(), Dense(300), ReLU(), Dense(1))
    return ModelSpec("wide", (1, 1, 1), layers, "mean_squared_error")


async def test_heartbeat_is_sent_only_when_nothing_else_was_said() -> None:
    async with fleet(heartbeat_ms=200) as f:
        visit = await f.visit()
        beats = 0
        for _ in range(8):  # something is said more often than a heartbeat is due
            visit.assign("unknown", 0, PLAN, START)
            heard = await soon(visit.heard.get())
            beats += heard.WhichOneof("message") == "heartbeat"
            await asyncio.sleep(0.05)
        assert beats == 0
        assert (await soon(visit.heard.get())).WhichOneof("message") == "heartbeat"


async def test_agent_that_trains_still_sends_heartbeats() -> None:
    async with fleet(heartbeat_ms=50, drain_s=0) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, replace_passes(3000), START)
        for _ in range(3):
            assert (await soon(visit.heard.get())).WhichOneof("message") == "heartbeat"
        assert f.aggregator.updates.empty()


def replace_passes(passes: int) -> TrainingPlan:
    return TrainingPlan((replace(LONG_PLAN.phases[0], passes=passes),))


async def test_withdrawn_work_is_dropped_wherever_it_is() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        in_training = visit.assign(RUN, 0, LONG_PLAN, START)
        waiting = visit.assign(RUN, 1, PLAN, START)
        visit.withdraw(in_training)
        visit.withdraw(waiting)
        wanted = visit.assign(RUN, 2, PLAN, START)
        header, _ = await f.update()
        assert header.assignment_id == wanted


async def test_withdrawal_ends_the_wait_for_a_model() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        f.aggregator.unavailable = True
        withdrawn = visit.assign(RUN, 0, PLAN, None)
        await asyncio.sleep(QUIET_S)
        visit.withdraw(withdrawn)
        wanted = visit.assign(RUN, 1, PLAN, START)
        assert (await f.update())[0].assignment_id == wanted
        assert visit.heard.empty()  # nothing to decline


async def test_withdrawal_of_work_whose_model_was_fetched_is_harmless() -> None:
    async with fleet() as f:
        f.aggregator.model = START
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        withdrawn = visit.assign(RUN, 0, LONG_PLAN, None)
        while not f.aggregator.fetches:  # noqa: ASYNC110 - a peer, not an event
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        visit.withdraw(withdrawn)
        wanted = visit.assign(RUN, 1, PLAN, START)
        assert (await f.update())[0].assignment_id == wanted
        assert f.coordinator.visits.empty()  # it never had to come again


async def test_model_that_is_gone_is_declined_for_this_time() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        f.aggregator.gone = True
        visit.assign(RUN, 0, PLAN, None)
        decline = (await soon(visit.heard.get())).decline
        assert not decline.permanent
        assert "cannot be fetched" in decline.reason


async def test_interrupted_fetch_is_tried_again() -> None:
    async with fleet() as f:
        f.aggregator.model, f.aggregator.unavailable = START, True
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, None)
        await asyncio.sleep(QUIET_S)
        f.aggregator.unavailable = False
        _, data = await f.update()
        assert data == expected_delta(0).astype("<f4").tobytes()
        assert f.aggregator.fetches > 1


async def test_update_that_was_withdrawn_is_not_sent_again() -> None:
    aggregator = AggregatorPeer(answer=lambda key, times: 0)
    async with fleet(aggregator) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        withdrawn = visit.assign(RUN, 0, PLAN, START)
        await f.update()
        visit.withdraw(withdrawn)
        visit.end()
        assert list((await f.visit()).hello.assignment_ids) == []
        await f.leave()  # at once: nothing waits for a receipt


async def test_assignment_given_twice_is_done_once() -> None:
    aggregator = AggregatorPeer(answer=lambda key, times: 0)
    async with fleet(aggregator, drain_s=0) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        visit.assign(RUN, 0, PLAN, START)
        await f.update()
        visit.assign(RUN, 0, PLAN, START)
        assert await stays_empty(f.aggregator.updates)


async def test_agent_that_cannot_deliver_stops_training() -> None:
    aggregator = AggregatorPeer(answer=lambda key, times: 0)
    async with fleet(aggregator, drain_s=0) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        given = [visit.assign(RUN, index, PLAN, START) for index in range(6)]
        sent = [(await f.update())[0].assignment_id for _ in range(4)]
        assert sent == given[:4]
        assert await stays_empty(f.aggregator.updates)
        visit.end()
        assert list((await f.visit()).hello.assignment_ids) == given


BAD_WORK: dict[str, tuple[RunSpec, TrainingPlan, Parameters, str]] = {
    "unknown task": (replace(SPEC, task="sines"), PLAN, START, "unknown task"),
    "missing data": (replace(SPEC, task="omniglot"), PLAN, START, "--data"),
    "unknown layer": (
        SPEC,
        TrainingPlan((Phase(samples=4, rate=0.1, trainable=("dense_9",)),)),
        START,
        "unknown layer 'dense_9'",
    ),
    "parameters of another model": (SPEC, PLAN, START[:-1], "parameters"),
    "NaN": (SPEC, PLAN, np.full_like(START, np.nan), "not finite"),
}


@pytest.mark.parametrize("case", BAD_WORK)
async def test_impossible_work_is_declined_in_one_line_and_the_agent_stays(
    case: str, caplog: pytest.LogCaptureFixture
) -> None:
    spec, plan, start, reason = BAD_WORK[case]
    async with fleet() as f:
        visit = await f.visit()
        visit.brief("bad", spec)
        bad = visit.assign("bad", 0, plan, start)
        decline = (await soon(visit.heard.get())).decline
        assert (decline.assignment_id, decline.permanent) == (bad, True)
        assert reason in decline.reason
        assert "\n" not in decline.reason
        assert [r for r in caplog.records if r.exc_info and r.name in OUR_LOGS] == []
        visit.brief(RUN, SPEC)
        good = visit.assign(RUN, 0, PLAN, START)
        assert (await f.update())[0].assignment_id == good


async def test_brief_that_does_not_parse_is_declined_and_the_agent_stays() -> None:
    async with fleet() as f:
        visit = await f.visit()
        brief = co.RunBrief(run_id="bad")  # no model at all
        visit.to_say.put_nowait(co.AttendResponse(run_brief=brief))
        visit.assign("bad", 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        await f.update()


async def test_assignment_without_brief_is_declined_for_this_time() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.assign("unheard", 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert not decline.permanent
        assert "no brief" in decline.reason


async def test_agent_trains_on_its_own_data_in_the_order_of_the_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    inputs, targets = rng.normal(size=(40, 1)), rng.normal(size=(40, 1))
    np.savez(tmp_path / "own.npz", inputs=inputs, targets=targets)
    async with fleet(own_data=tmp_path / "own.npz") as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        for index in range(2):
            visit.assign(RUN, index, PLAN, START)
            _, data = await f.update()
            rows = np.arange(32 * index, 32 * (index + 1)) % 40
            samples = Samples(inputs[rows].astype(np.float32), targets[rows].astype(np.float32))
            trained = START.copy()
            run_plan(make_learner(SPEC.model), trained, samples, PLAN)
            assert data == (trained - START).astype("<f4").tobytes()


async def test_agent_that_another_replaced_ends_as_superseded() -> None:
    async with fleet() as f:
        visit = await f.visit()
        f.coordinator.refusals = [(grpc.StatusCode.ABORTED, "replaced")]
        visit.end()
        with pytest.raises(Superseded, match="pi-1"):
            await soon(f.agent)


async def test_agent_that_the_coordinator_refuses_says_why() -> None:
    async with fleet() as f:
        visit = await f.visit()
        f.coordinator.refusals = [(grpc.StatusCode.INVALID_ARGUMENT, "that name is odd")] * 3
        visit.end()
        with pytest.raises(InvalidInput, match="that name is odd"):
            await soon(f.agent)


async def test_refused_hello_is_tried_again() -> None:
    async with fleet() as f:
        visit = await f.visit()
        f.coordinator.refusals = [(grpc.StatusCode.INVALID_ARGUMENT, "no hello within 10 s")] * 2
        visit.end()
        await f.visit()
        assert not f.agent.done()


async def test_coordinator_that_stays_away_is_given_up_when_asked_to() -> None:
    settings = AgentSettings(coordinator="127.0.0.1:1", name="pi-1", reconnect_s=0.1, give_up_s=0.2)
    with pytest.raises(GaveUp, match="no coordinator at"):
        await soon(Agent(settings).run(asyncio.Event()))


async def test_coordinator_that_starts_later_is_found(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    coordinator = CoordinatorPeer("127.0.0.1:1", heartbeat_ms=50)
    async with listening(coordinator=CoordinatorPeer("")) as address:
        pass  # an address that is free, most likely
    settings = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.1)
    stop = asyncio.Event()
    agent = asyncio.create_task(Agent(settings).run(stop))
    await asyncio.sleep(QUIET_S)
    async with listening(coordinator=coordinator, address=address):
        await soon((await soon(coordinator.visits.get())).heard.get())
        stop.set()
        await soon(agent)
    said = [r.message for r in caplog.records if r.name == "session"]
    assert said == ["no coordinator, trying again", "coordinator reached"]


async def test_stop_while_training_still_delivers() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        expected_id = visit.assign(RUN, 0, LONG_PLAN, START)
        await asyncio.sleep(0.05)
        await f.leave()
        assert f.aggregator.updates.get_nowait()[0].assignment_id == expected_id


async def test_measurements_of_a_training_reach_the_metrics_service() -> None:
    metrics = MetricsPeer()
    async with listening(metrics=metrics) as address, fleet(metrics=address) as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 3, PLAN, START)
        header, _ = await f.update()
        samples = [await soon(metrics.samples.get()) for _ in range(2)]
        assert {(s.run_id, s.round, s.source) for s in samples} == {(RUN, 3, "pi-1")}
        values = {s.name: s.value for s in samples}
        assert values["training_loss"] == header.loss
        assert values["training_seconds"] == pytest.approx(header.training_us / 1e6)


async def test_metrics_service_that_is_not_there_does_not_matter() -> None:
    async with fleet(metrics="127.0.0.1:1") as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        for index in range(20):
            visit.assign(RUN, index, PLAN, START)
            await f.update()
        await f.leave()

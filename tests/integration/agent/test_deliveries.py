"""From training to receipt: every update arrives once, and is the simulator's."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from agent_fleet import (
    LONG_PLAN,
    PLAN,
    QUIET_S,
    RUN,
    SINE,
    SLOW_PLAN,
    SPEC,
    START,
    expected_delta,
    fleet,
    soon,
    stays_empty,
    wide_model,
)
from agent_peers import AggregatorPeer, CoordinatorPeer, listening

from edge_agents.agent import Agent
from edge_agents.settings import AgentSettings
from tinyfleet.exchange import Exchange
from tinyfleet.learner import Samples, make_learner, run_plan
from tinyfleet.run import make_run, training_samples
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload
from tinyfleet.v1 import aggregator_pb2 as agg


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


async def test_stop_while_training_still_delivers() -> None:
    async with fleet() as f:
        visit = await f.visit()
        visit.brief(RUN, SPEC)
        expected_id = visit.assign(RUN, 0, LONG_PLAN, START)
        await asyncio.sleep(0.05)
        await f.leave()
        assert f.aggregator.updates.get_nowait()[0].assignment_id == expected_id

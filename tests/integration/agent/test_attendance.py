"""How an agent attends: hello, heartbeats, who replaces it, and what it measures."""

import asyncio

import grpc
import pytest
from agent_fleet import PLAN, QUIET_S, RUN, SPEC, START, fleet, replace_passes, soon
from agent_peers import AggregatorPeer, CoordinatorPeer, MetricsPeer, listening

from edge_agents.agent import Agent
from edge_agents.session import GaveUp, Superseded
from edge_agents.settings import AgentSettings
from tinyfleet.errors import InvalidInput


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

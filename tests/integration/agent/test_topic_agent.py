"""An agent that learns from a topic, between peers that the test plays, over real sockets."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agent_peers import AggregatorPeer, CoordinatorPeer, Visit, listening

from edge_agents.agent import Agent
from edge_agents.prediction.personal import Personal
from edge_agents.settings import AgentSettings
from edge_agents.topic.learning import TopicLearning
from edge_agents.topic.readers import ARRAY
from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.topic import Topic
from tinyfleet.errors import InvalidInput
from tinyfleet.learner import Samples, make_learner, run_plan
from tinyfleet.run import make_run
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task

sys.path.append(str(Path(__file__).parents[2] / "unit" / "edge_agents"))
from topic_messages import flat

PATIENCE_S = 20.0
SPEC = make_run(make_task("sine", {}), "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan((Phase(samples=32, rate=0.01),))
RUN = "run"
STREAM = StreamSettings(type=ARRAY, fields=("data[0]",), labels=("data[1]",))


async def soon(waiting: Any) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE_S)


@dataclass
class Fleet:
    coordinator: CoordinatorPeer
    aggregator: AggregatorPeer
    learning: TopicLearning
    stop: asyncio.Event
    agent: asyncio.Task[None]

    def publish(self, samples: Samples) -> None:
        for x, t in zip(samples.inputs[:, 0], samples.targets[:, 0], strict=True):
            self.learning.topic.hear(flat(x, t), 0.0)

    async def taken(self, count: int) -> None:
        """Return once so many samples are in the hands of a training."""
        while self.learning.topic.reading().taken < count:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)

    async def visit(self) -> Visit:
        visit = await soon(self.coordinator.visits.get())
        visit.brief(RUN, SPEC)
        return visit

    async def update(self) -> bytes:
        return (await soon(self.aggregator.updates.get()))[1]


@asynccontextmanager
async def fleet(stream: StreamSettings = STREAM, **settings: Any) -> AsyncIterator[Fleet]:
    aggregator = AggregatorPeer()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(listening(aggregator=aggregator))
        coordinator = CoordinatorPeer(address)
        address = await stack.enter_async_context(listening(coordinator=coordinator))
        chosen = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.2, **settings)
        learning = TopicLearning(Topic(stream), Personal())
        stop = asyncio.Event()
        agent = asyncio.create_task(Agent(chosen, learning).run(stop))
        try:
            yield Fleet(coordinator, aggregator, learning, stop, agent)
        finally:
            stop.set()
            await asyncio.gather(agent, return_exceptions=True)


def samples(seed: int, count: int) -> Samples:
    random = np.random.default_rng(seed)
    return Samples(*(random.normal(size=(count, 1)).astype(np.float32) for _ in range(2)))


async def test_rounds_take_the_samples_of_the_topic_one_after_the_other() -> None:
    all_samples = samples(3, 64)
    async with fleet() as f:
        visit = await f.visit()
        assert list(visit.hello.capabilities.tasks) == []
        f.publish(all_samples[0:40])
        for index in range(2):
            visit.assign(RUN, index, PLAN, START)
            if index:
                f.publish(all_samples[40:64])
            trained = START.copy()
            part = all_samples[32 * index : 32 * (index + 1)]
            run_plan(make_learner(SPEC.model), trained, part, PLAN)
            assert await f.update() == (trained - START).astype("<f4").tobytes()
            newest = f.learning.personal.newest
            assert newest is not None
            assert (newest.run_id, newest.round) == (RUN, index)
            assert np.array_equal(newest.parameters, trained)


async def test_silent_topic_is_declined_in_time_and_served_when_it_is_back() -> None:
    async with fleet(replace(STREAM, stale_s=0.05, timeout_s=0.05)) as f:
        visit = await f.visit()
        assignment = visit.assign(RUN, 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert (decline.assignment_id, decline.permanent) == (assignment, False)
        assert decline.reason == "the topic gave no sample for 0.05 s"
        f.publish(samples(1, 32))
        visit.assign(RUN, 1, PLAN, START)
        await f.update()


async def test_withdrawn_assignment_makes_way_for_the_next() -> None:
    async with fleet() as f:
        visit = await f.visit()
        first = visit.assign(RUN, 0, PLAN, START)
        f.publish(samples(1, 5))
        await f.taken(5)
        visit.withdraw(first)
        visit.assign(RUN, 1, PLAN, START)
        f.publish(samples(2, 27 + 32))  # the first may get some of them, and be done
        while (await soon(f.aggregator.updates.get()))[0].round != 1:
            pass


async def test_agent_stops_at_once_though_it_waits_for_samples() -> None:
    async with fleet(drain_s=600.0) as f:
        visit = await f.visit()
        visit.assign(RUN, 0, PLAN, START)
        f.publish(samples(1, 5))
        await f.taken(5)
        f.stop.set()
        assert "the agent stops" in (await soon(visit.heard.get())).decline.reason
        await soon(f.agent)


async def test_agent_that_stops_still_trains_on_what_waits() -> None:
    async with fleet(drain_s=600.0) as f:
        visit = await f.visit()
        visit.assign(RUN, 0, PLAN, START)
        f.publish(samples(1, 31))
        await f.taken(31)
        f.publish(samples(2, 1))
        f.stop.set()
        await f.update()
        await soon(f.agent)


async def test_model_of_another_shape_is_declined_for_good() -> None:
    async with fleet(replace(STREAM, window=2)) as f:
        visit = await f.visit()
        visit.assign(RUN, 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "the topic gives 2 inputs and 1 targets a sample" in decline.reason


def test_topic_and_own_data_are_not_for_one_agent(tmp_path: Path) -> None:
    learning = TopicLearning(Topic(STREAM), Personal())
    with pytest.raises(InvalidInput, match="choose one of them"):
        Agent(AgentSettings(own_data=tmp_path / "own.npz"), learning)

"""An agent between a coordinator and an aggregator that the test plays, over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from agent_peers import AggregatorPeer, CoordinatorPeer, Visit, listening

from edge_agents.agent import Agent
from edge_agents.settings import AgentSettings
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.model.layers import Dense, ReLU
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.run import make_run, training_samples
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as agg

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


def wide_model() -> ModelSpec:
    layers = (Dense(300), ReLU(), Dense(300), ReLU(), Dense(1))
    return ModelSpec("wide", (1, 1, 1), layers, "mean_squared_error")


def replace_passes(passes: int) -> TrainingPlan:
    return TrainingPlan((replace(LONG_PLAN.phases[0], passes=passes),))

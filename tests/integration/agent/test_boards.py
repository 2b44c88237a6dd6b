"""A board's member of the fleet, between peers that the test plays, over real sockets.

The board is played as well: it trains with the host's learner, and is unplugged when the test says.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import grpc
import pytest
from agent_peers import AggregatorPeer, CoordinatorPeer, Visit, listening
from played_board import Bench, identity

from edge_agents import boards
from edge_agents.boards import Board, BoardMember, Ports
from edge_agents.device_url import parse_device
from edge_agents.model_files import ModelFiles, default_folder
from edge_agents.preparation import ProcessData
from edge_agents.session import Superseded
from edge_agents.settings import AgentSettings
from edge_agents.trainers.thread import WorkThread
from tinyfleet.learner import make_learner, run_plan
from tinyfleet.model.extractor import Extractor
from tinyfleet.model.spec import Parameters
from tinyfleet.run import make_run, training_samples
from tinyfleet.run_files import file_of
from tinyfleet.strategies.plan import Phase, TrainingPlan
from tinyfleet.tasks import make_task
from tinyfleet.v1 import aggregator_pb2 as agg

PATIENCE_S = 20.0
SINE = make_task("sine", {})
SPEC = make_run(SINE, "tiny_reptile", rounds=100, seed=5, model="mlp_32")
START = SPEC.initial_parameters()
PLAN = TrainingPlan((Phase(samples=32, rate=0.01),))
RUN = "run"


async def soon(waiting: Any) -> Any:
    return await asyncio.wait_for(waiting, PATIENCE_S)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boards, "PROBE_S", 0.02)
    monkeypatch.setattr(boards, "RETRY_PAUSES_S", (0.01, 0.01, 0.01))


@dataclass
class Attached:
    """A board, its member of the fleet, and its peers."""

    bench: Bench
    coordinator: CoordinatorPeer
    aggregator: AggregatorPeer
    leave: asyncio.Event
    member: asyncio.Task[None]

    async def visit(self) -> Visit:
        return await soon(self.coordinator.visits.get())

    async def update(self) -> tuple[agg.UpdateHeader, bytes]:
        return await soon(self.aggregator.updates.get())


@asynccontextmanager
async def attached(
    bench: Bench | None = None,
    query: str = "",
    aggregator: AggregatorPeer | None = None,
    **settings: Any,
) -> AsyncIterator[Attached]:
    bench, aggregator = bench or Bench(), aggregator or AggregatorPeer()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(listening(aggregator=aggregator))
        coordinator = CoordinatorPeer(address)
        address = await stack.enter_async_context(listening(coordinator=coordinator))
        chosen = AgentSettings(coordinator=address, name="pi-1", reconnect_s=0.1, **settings)
        choice = parse_device("--device", f"pty:///b{query}")
        board = Board(choice.url, Ports(), 0.1, connect=bench.connect)
        data, thread = ProcessData(None, None), WorkThread()
        files = ModelFiles(chosen.models or default_folder({}))
        leave = asyncio.Event()
        member = BoardMember(chosen, choice, 1, data, thread, board, files)
        running = asyncio.create_task(member.run(leave))
        try:
            yield Attached(bench, coordinator, aggregator, leave, running)
        finally:
            leave.set()
            await asyncio.gather(running, return_exceptions=True)


def expected_delta(round: int) -> Parameters:
    trained = START.copy()
    samples = training_samples(SINE, SPEC.seed, round, 0, PLAN.samples)
    run_plan(make_learner(SPEC.model), trained, samples, PLAN)
    return trained - START


def lines_of(caplog: pytest.LogCaptureFixture, logger: str) -> list[str]:
    return [record.message for record in caplog.records if record.name == logger]


async def test_board_is_a_member_of_its_own_and_trains_with_the_bits_of_the_host() -> None:
    async with attached() as a:
        visit = await a.visit()
        able = visit.hello.capabilities
        assert visit.hello.agent == "pi-1.fake-1"
        assert (able.target, able.engine) == ("cortex-m4", "device")
        assert (able.memory_bytes, able.clock_hz) == (200_000, 64_000_000)
        assert list(able.tasks) == ["sine"]
        visit.brief(RUN, SPEC)
        for index in range(3):
            expected_id = visit.assign(RUN, index, PLAN, START)
            header, data = await a.update()
            assert (header.assignment_id, header.training_us) == (expected_id, 500_000)
            assert data == expected_delta(index).astype("<f4").tobytes()
        assert len(a.bench.opened) == 1


async def test_name_of_the_url_is_the_name_in_the_fleet() -> None:
    async with attached(query="?name=shed") as a:
        assert (await a.visit()).hello.agent == "shed"


async def test_samples_of_a_sensor_pass_through_no_extractor(tmp_path) -> None:
    file = file_of(b"an extractor")
    extractor = Extractor(file.sha256, file.size, (1, 1, 1), 4)
    spec = make_run(SINE, "tiny_reptile", 10, 5, model="mlp_32", extractor=extractor)
    async with attached(query="?samples=sensor", models=tmp_path) as a:
        a.aggregator.files[file.sha256] = b"an extractor"
        visit = await a.visit()
        visit.brief(RUN, spec)
        visit.assign(RUN, 0, PLAN, spec.initial_parameters())
        decline = (await soon(visit.heard.get())).decline
        assert "do not pass through an extractor" in decline.reason
        assert decline.permanent


async def test_board_that_trains_on_its_sensor_serves_any_task() -> None:
    async with attached(query="?samples=sensor") as a:
        visit = await a.visit()
        assert list(visit.hello.capabilities.tasks) == []
        visit.brief(RUN, replace(SPEC, task="omniglot"))
        visit.assign(RUN, 0, PLAN, START)
        header, data = await a.update()
        assert (header.samples, header.diverged) == (32, False)
        assert len(data) == 4 * len(START)


async def test_board_that_fails_once_delivers_and_stays() -> None:
    async with attached(Bench(fail_at={"train": "restarted"})) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        _, data = await a.update()
        assert data == expected_delta(0).astype("<f4").tobytes()
        assert not visit.left.is_set()


async def test_board_that_is_gone_leaves_the_fleet_and_comes_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    async with attached(bench := Bench()) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        bench.plugged = False
        visit.assign(RUN, 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert not decline.permanent
        assert "the board was unplugged" in decline.reason
        await soon(visit.left.wait())
        await asyncio.sleep(0.3)  # looks for it several times
        assert a.coordinator.visits.empty()
        bench.plugged = True
        again = await a.visit()
        assert again.hello.agent == visit.hello.agent
        assert again.hello.instance_id != visit.hello.instance_id
        again.brief(RUN, SPEC)
        again.assign(RUN, 1, PLAN, START)
        _, data = await a.update()
        assert data == expected_delta(1).astype("<f4").tobytes()
    assert lines_of(caplog, "board") == [
        "board reached",
        "connection to the board lost, trying again",
        "board reached",
    ]


async def test_withdrawn_work_frees_a_board_at_once() -> None:
    async with attached(Bench(slow_at={"train": 1000.0})) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        withdrawn = visit.assign(RUN, 0, PLAN, START)
        while "train" not in a.bench.calls:  # noqa: ASYNC110 - a board, not an event
            await asyncio.sleep(0.001)
        visit.withdraw(withdrawn)
        visit.assign(RUN, 1, PLAN, START)
        header, data = await a.update()
        assert (header.round, data) == (1, expected_delta(1).astype("<f4").tobytes())
        assert visit.heard.empty()  # nothing to decline
        assert len(a.bench.opened) == 1


async def test_idle_board_that_vanishes_is_missed() -> None:
    async with attached() as a:
        visit = await a.visit()
        a.bench.plugged = False
        await soon(visit.left.wait())
        a.bench.plugged = True
        await a.visit()


async def test_missing_board_is_waited_for_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bench = Bench(plugged=False)
    async with attached(bench) as a:
        await asyncio.sleep(0.3)
        assert len(bench.opened) > 2
        bench.plugged = True
        await a.visit()
    assert lines_of(caplog, "board") == ["no board, trying again", "board reached"]


async def test_stop_does_not_wait_for_a_board_that_is_missing() -> None:
    async with attached(Bench(plugged=False)) as a:
        await asyncio.sleep(0.05)
        a.leave.set()
        await soon(a.member)


async def test_what_is_trained_is_delivered_before_the_member_leaves() -> None:
    deaf_once = AggregatorPeer(lambda key, times: agg.RECEIPT_STATUS_ACCEPTED if times > 1 else 0)
    async with attached(aggregator=deaf_once) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        await a.update()
        a.bench.plugged = False
        await asyncio.sleep(0.2)
        assert not visit.left.is_set()  # its update has no receipt yet
        visit.end()
        again = await a.visit()
        assert list(again.hello.assignment_ids) == ["run-0-0-0"]
        again.withdraw("run-0-0-0")
        await soon(again.left.wait())


async def test_model_that_does_not_fit_is_declined_for_good_with_the_bytes_missing() -> None:
    async with attached(Bench(identity(memory_bytes=5000))) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "too few" in decline.reason
        assert not visit.left.is_set()


async def test_layer_that_the_firmware_lacks_is_declined_for_good_and_the_board_stays() -> None:
    async with attached(Bench(fail_at={"configure": "lacks a layer"})) as a:
        visit = await a.visit()
        visit.brief(RUN, SPEC)
        visit.assign(RUN, 0, PLAN, START)
        decline = (await soon(visit.heard.get())).decline
        assert decline.permanent
        assert "cannot run a layer of the model" in decline.reason
        visit.assign(RUN, 1, PLAN, START)
        assert (await a.update())[0].round == 1
        assert not visit.left.is_set()


async def test_member_that_another_replaced_ends_as_superseded() -> None:
    async with attached() as a:
        visit = await a.visit()
        a.coordinator.refusals = [(grpc.StatusCode.ABORTED, "replaced")]
        visit.end()
        with pytest.raises(Superseded, match=r"pi-1\.fake-1"):
            await soon(a.member)
        assert a.bench.closed == 1

"""The coordinator around its dispatcher, with an aggregator and a store that fail on command."""

import asyncio

import grpc
import pytest

from services.coordinator import archive, coordinator, following
from services.coordinator.adapters import agent_stream
from services.coordinator.adapters.agent_stream import MAX_QUEUED, AgentStream
from services.coordinator.adapters.memory import MemoryStore
from services.coordinator.archive import Archive
from services.coordinator.coordinator import Coordinator
from services.coordinator.core import Attendance, Rules
from services.coordinator.fleet import Capabilities
from services.coordinator.messages import spec_from_bytes
from services.coordinator.ports import (
    AggregatorRefused,
    AggregatorUnavailable,
    Ended,
    ModelUnknown,
)
from services.coordinator.runs import RunRecord, RunStatus
from services.coordinator.work import Assignment, ClosedRound, ModelChange, RoundWork, Totals
from services.hosting.errors import Conflict, NotFound, NotReady, StorageFailed
from services.hosting.grants import Grants
from tinyfleet.errors import InvalidInput
from tinyfleet.readings import Level
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.wire import run_to_message


def spec_bytes(rounds=3):
    run = make_run(make_task("sine", {}), "tiny_reptile", rounds, 1, "mlp_32")
    return run_to_message(run).SerializeToString(deterministic=True)


class FakeAggregator:
    """Says what the test puts into `changes`; raises what it puts into `errors` first."""

    address = "127.0.0.1:7311"

    def __init__(self):
        self.changes = asyncio.Queue()
        self.errors = []
        self.opened, self.ended = [], []

    async def open_run(self, run_id, spec):
        if self.errors:
            raise self.errors.pop(0)
        self.opened.append(run_id)

    async def watch(self, run_id):
        while (change := await self.changes.get()) is not None:
            yield change

    async def end_run(self, run_id):
        if self.errors:
            raise self.errors.pop(0)
        self.ended.append(run_id)
        return Ended(3, "ab" * 32)

    async def close(self):
        pass


class FailingStore(MemoryStore):
    """Fails as often as the test wishes, then works."""

    failures = 0

    def save_run(self, record):
        self._fail()
        super().save_run(record)

    def add_run(self, record):
        self._fail()
        super().add_run(record)

    def _fail(self):
        if self.failures:
            self.failures -= 1
            raise StorageFailed("disk full")


class FakeSession:
    def __init__(self):
        self.said = []

    def brief(self, run_id, spec):
        self.said.append("brief")

    def assign(self, assignment, work):
        self.said.append(assignment.id)

    def withdraw(self, assignment_id):
        self.said.append(f"not {assignment_id}")

    def close(self, reason, replaced):
        self.said.append(reason)


class FakeTelemetry:
    def __init__(self):
        self.samples = {}

    def report(self, name, value, unit="", run_id="", round=None):
        self.samples[name] = (value, unit, round)


class World:
    def __init__(self, store=None, **options):
        self.store = store or FailingStore()
        self.aggregator = FakeAggregator()
        self.telemetry = FakeTelemetry()
        self.coordinator = Coordinator(
            self.store, self.aggregator, self.telemetry, spec_from_bytes, Rules(), **options
        )

    async def __aenter__(self):
        await self.coordinator.start()
        return self

    async def __aexit__(self, *_):
        await self.coordinator.close()

    def attach(self, name="a", in_hand=()):
        session = FakeSession()
        number = self.coordinator.next_session()
        self.coordinator.attach(Attendance(number, name, "one", Capabilities(), in_hand), session)
        return session

    async def until(self, condition):
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - conditions are many, and tests only
                await asyncio.sleep(0.001)

    async def status(self, run_id, wanted):
        async with asyncio.timeout(5):
            while (  # noqa: ASYNC110 - as above
                record := await self.coordinator.run(run_id)
            ).status is not wanted:
                await asyncio.sleep(0.001)
        return record


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch):
    monkeypatch.setattr(following, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(following, "LONGEST_PAUSE_S", 0.002)
    monkeypatch.setattr(archive, "RETRY_S", 0.001)


async def test_run_is_followed_from_first_to_last_round():
    async with World() as world:
        agent = world.attach()
        run = await world.coordinator.create_run("one", spec_bytes(rounds=1))
        world.aggregator.changes.put_nowait(ModelChange(0, whole=True))
        await world.until(lambda: len(agent.said) == 2)
        assert agent.said == ["brief", f"{run.run_id}-0-0-0"]
        closed = ClosedRound(0, 1, 0.5, 32, 4612, 0.25, 0)
        totals = Totals(1, 32, 4612, 0)
        world.aggregator.changes.put_nowait(ModelChange(1, closed=[closed], totals=totals))
        record = await world.status(run.run_id, RunStatus.FINISHED)
        assert (record.parameters_sha256, record.progress.samples) == ("ab" * 32, 32)
        assert world.aggregator.ended == [run.run_id]
        assert world.telemetry.samples["round_loss"] == (0.5, "", 0)
        assert world.telemetry.samples["slowest_training_seconds"] == (0.25, "seconds", 0)
        assert world.telemetry.samples["agents_attached"] == (1, "", 0)
        assert set(world.telemetry.samples) >= {"round_seconds", "reassignments_total"}
    assert world.store.run(run.run_id).settled


async def test_staleness_is_reported_where_rounds_overlap():
    run = make_run(make_task("sine", {}), "fed_buff", 9, 1, "mlp_32")
    async with World() as world:
        world.attach()
        message = run_to_message(run).SerializeToString(deterministic=True)
        await world.coordinator.create_run("one", message)
        world.aggregator.changes.put_nowait(ModelChange(0, open_slots=range(8), whole=True))
        closed = ClosedRound(0, 4, 0.5, 32, 4612, 0.25, 0, staleness=1.5)
        world.aggregator.changes.put_nowait(ModelChange(1, open_slots=(4, 5), closed=[closed]))
        await world.until(lambda: "round_staleness" in world.telemetry.samples)
        assert world.telemetry.samples["round_staleness"] == (1.5, "", 0)


async def test_repeated_request_gives_the_same_run_and_another_spec_is_refused():
    async with World() as world:
        first = await world.coordinator.create_run("one", spec_bytes())
        assert (await world.coordinator.create_run("one", spec_bytes())).run_id == first.run_id
        with pytest.raises(Conflict):
            await world.coordinator.create_run("one", spec_bytes(rounds=4))


async def test_simultaneous_requests_make_one_run():
    async with World() as world:
        create = world.coordinator.create_run
        runs = await asyncio.gather(*(create("one", spec_bytes()) for _ in range(5)))
        assert len({run.run_id for run in runs}) == 1


async def test_number_of_runs_is_bounded_and_repeats_still_answered():
    async with World(max_runs=1) as world:
        first = await world.coordinator.create_run("one", spec_bytes())
        with pytest.raises(NotReady):
            await world.coordinator.create_run("two", spec_bytes())
        assert (await world.coordinator.create_run("one", spec_bytes())).run_id == first.run_id


async def test_run_that_cannot_be_stored_does_not_begin():
    async with World() as world:
        world.store.failures = 1
        with pytest.raises(StorageFailed):
            await world.coordinator.create_run("one", spec_bytes())
        assert await world.coordinator.runs(10) == []
        assert world.aggregator.opened == []
        await world.coordinator.create_run("one", spec_bytes())


async def test_end_of_a_run_is_stored_when_the_disk_has_room_again():
    async with World() as world:
        run = await world.coordinator.create_run("one", spec_bytes())
        world.store.failures = 3
        world.aggregator.changes.put_nowait(ModelChange(3, whole=True))
        await world.status(run.run_id, RunStatus.FINISHED)
        await world.until(lambda: world.store.run(run.run_id).settled)


async def test_stop_that_is_not_stored_is_not_acknowledged():
    async with World() as world:
        run = await world.coordinator.create_run("one", spec_bytes())
        world.store.failures = 1
        with pytest.raises(StorageFailed):
            await world.coordinator.stop_run(run.run_id)
        assert (await world.coordinator.stop_run(run.run_id)).status is RunStatus.STOPPED


async def test_run_that_the_aggregator_refuses_fails_with_its_reason():
    async with World() as world:
        world.aggregator.errors = [AggregatorRefused("too large")]
        run = await world.coordinator.create_run("one", spec_bytes())
        record = await world.status(run.run_id, RunStatus.FAILED)
        assert record.message == "the aggregator refused the run: too large"


async def test_aggregator_is_tried_again_until_it_answers():
    async with World() as world:
        world.aggregator.errors = [AggregatorUnavailable("no connection")] * 5
        run = await world.coordinator.create_run("one", spec_bytes())
        await world.until(lambda: world.aggregator.opened == [run.run_id])


async def test_run_whose_model_is_gone_at_its_end_fails():
    async with World() as world:
        run = await world.coordinator.create_run("one", spec_bytes())
        await world.until(lambda: world.aggregator.opened)
        world.aggregator.errors = [ModelUnknown("no such run")]
        world.aggregator.changes.put_nowait(ModelChange(3, whole=True))
        record = await world.status(run.run_id, RunStatus.FAILED)
        assert "no longer has this run's model" in record.message


async def test_what_a_run_waits_for_is_not_stored():
    async with World() as world:
        run = await world.coordinator.create_run("one", spec_bytes())
        world.aggregator.changes.put_nowait(ModelChange(0, whole=True))
        agent = world.attach()
        await world.until(lambda: agent.said)
        world.coordinator.aggregator_lost(run.run_id, "no connection")
        assert "waiting" in (await world.coordinator.run(run.run_id)).message
    assert world.store.run(run.run_id).message == ""


async def test_stored_run_that_this_version_does_not_know_fails_alone():
    store = MemoryStore()
    store.add_run(RunRecord("old", "old", b"", 1.0))
    store.add_run(RunRecord("good", "good", spec_bytes(), 2.0))
    async with World(store) as world:
        record = await world.coordinator.run("old")
        assert record.status is RunStatus.FAILED
        assert "cannot go on with it" in record.message
        assert (await world.coordinator.run("good")).status is RunStatus.PENDING


async def test_followers_are_told_the_last_state_at_most_ten_times_a_second(monkeypatch):
    monkeypatch.setattr(coordinator, "WATCH_S", 0.05)
    async with World() as world:
        run = await world.coordinator.create_run("one", spec_bytes(rounds=200))

        async def watch():
            return [record async for record in world.coordinator.watch_run(run.run_id)]

        watching = asyncio.create_task(watch())
        for version in range(201):
            world.aggregator.changes.put_nowait(ModelChange(version, whole=version == 0))
            await asyncio.sleep(0.0005)
        seen = await watching
        assert len(seen) < 20
        assert seen[-1].status is RunStatus.FINISHED


async def test_unknown_run_is_not_found():
    async with World() as world:
        with pytest.raises(NotFound):
            await world.coordinator.run("nothing")


async def test_spec_with_an_unknown_task_is_refused():
    run = make_run(make_task("sine", {}), "tiny_reptile", 1, 1, "mlp_32")
    message = run_to_message(run)
    message.task = "sinus"
    async with World() as world:
        with pytest.raises(InvalidInput, match="did you mean 'sine'"):
            await world.coordinator.create_run("one", message.SerializeToString())


async def test_agents_are_stored_soon_after_they_come(monkeypatch):
    monkeypatch.setattr(coordinator, "TICK_S", 0.01)
    async with World() as world:
        world.attach("a")
        await world.until(lambda: world.store.agents(1))
        assert world.store.agents(1)[0].name == "a"


async def test_attaching_while_it_stops_is_told_so():
    async with World() as world:
        first = world.attach("a")
        await world.coordinator.drain()
        assert first.said[-1] == world.attach("b").said[-1] == "the coordinator stops"


async def test_started_again_after_a_drain_it_takes_agents_and_goes_on_with_its_runs():
    async with World() as world:
        record = await world.coordinator.create_run("one", spec_bytes())
        await world.coordinator.drain()
        await world.coordinator.start()
        agent = world.attach("a")
        world.aggregator.changes.put_nowait(ModelChange(0, whole=True))
        await world.until(lambda: any(record.run_id in said for said in agent.said))
        assert world.aggregator.opened == [record.run_id]


async def test_readings_tell_of_agents_rounds_and_what_is_waited_for():
    async with World() as world:
        assert {one.about: one.level for one in world.coordinator.readings()} == {
            "fleet": Level.OK,
            "runs": Level.OK,
        }
        record = await world.coordinator.create_run("one", spec_bytes())
        fleet, runs = world.coordinator.readings()
        assert (fleet.level, fleet.message) == (
            Level.WARN,
            "runs go on and no agent is attached",
        )
        world.attach("a")
        world.aggregator.changes.put_nowait(ModelChange(0, whole=True))
        await world.until(lambda: next(iter(world.coordinator.readings())).values["busy_agents"])
        fleet, runs = world.coordinator.readings()
        assert (fleet.level, fleet.message) == (Level.OK, "1 agents attached")
        assert runs.values["active_runs"] == runs.values["running_runs"] == 1
        assert runs.values["rounds"] == runs.values["pending_runs"] == 0
        assert 0.0 <= runs.values["round_age_s"] < 60.0
        world.coordinator.aggregator_lost(record.run_id, "connection refused")
        assert [one.level for one in world.coordinator.readings()][1] is Level.WARN


class SlowStore(MemoryStore):
    """Lets the test act while a write is going on."""

    def __init__(self, meanwhile):
        super().__init__()
        self.meanwhile = meanwhile
        self.saved = []

    def save_run(self, record):
        self.saved.append(record.message)
        self.meanwhile()


async def test_change_during_a_write_is_written_as_well():
    state = {"message": "first"}

    def read(run_id):
        return RunRecord(run_id, "r", b"", 0.0, message=state["message"])

    def change():
        if state["message"] == "first":
            state["message"] = "second"
            loop.call_soon_threadsafe(tested.queue, "run")

    loop = asyncio.get_running_loop()
    store, written = SlowStore(change), asyncio.Queue()
    tested = Archive(store, read, written.put_nowait)
    saving = asyncio.create_task(tested.save_forever())
    tested.queue("run")
    async with asyncio.timeout(5):
        while (await written.get()).message != "second":
            pass
    assert store.saved[0] == "first"
    assert store.saved[-1] == "second"
    saving.cancel()
    await tested.close()


def work():
    run = make_run(make_task("sine", {}), "tiny_reptile", 1, 1, "mlp_32")
    return RoundWork("run", 5, run.make_strategy().plan(0), b"1234")


async def test_stream_gives_messages_in_order_then_ends():
    stream = AgentStream("a", 60, Grants(b"s" * 32))
    stream.brief("run", spec_bytes())
    stream.assign(Assignment("run", 0, 0, 0), work())
    stream.withdraw("run-0-0-0")
    stream.end()
    kinds = []
    while (message := await stream.next()) is not None:
        kinds.append(message.WhichOneof("message"))
    assert kinds == ["run_brief", "assignment", "withdrawal"]
    assert stream.failure is None


async def test_assignment_carries_all_an_agent_needs():
    stream = AgentStream("a", 1.5, Grants(b"s" * 32))
    stream.assign(Assignment("run", 7, 3, 1), work())
    sent = (await stream.next()).assignment
    assert (sent.assignment_id, sent.round, sent.slot, sent.base_version) == ("run-7-3-1", 7, 3, 5)
    assert (sent.parameters, sent.deadline_ms) == (b"1234", 1500)
    assert sent.plan.phases[0].samples > 0


async def test_agent_that_does_not_read_is_cut_off():
    stream = AgentStream("a", 60, Grants(b"s" * 32))
    for number in range(MAX_QUEUED + 1):
        stream.withdraw(str(number))
    assert await stream.next() is None
    assert stream.failure[0] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_handler_that_is_stuck_in_a_write_is_cancelled(monkeypatch):
    monkeypatch.setattr(agent_stream, "STUCK_S", 0.01)
    made = asyncio.Event()

    async def handler():
        self_made.append(AgentStream("a", 60, Grants(b"s" * 32)))
        made.set()
        await asyncio.Event().wait()  # a write that never ends

    self_made = []
    task = asyncio.create_task(handler())
    await made.wait()
    self_made[0].close("gone", replaced=False)
    with pytest.raises(asyncio.CancelledError):
        await task

"""Runs whose rounds overlap: nobody waits for the slowest, what is too old is given out again."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.aggregator.buffered import Window
from services.coordinator.core import MAX_FAILURES, Attendance, Dispatcher, Rules
from services.coordinator.fleet import Capabilities, Needs
from services.coordinator.runs import RunStatus
from services.coordinator.work import (
    ClosedRound,
    CloseSession,
    EndRun,
    ModelChange,
    RefusedUpdate,
    RoundClosed,
    SendAssignment,
    Withdraw,
    parse_assignment_id,
)
from tinyfleet.model import builtin_model
from tinyfleet.run import RunSpec

MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
NEEDS = Needs("sine", 1000)
RULES = Rules(heartbeat_s=10, round_deadline_s=60)


def spec(rounds=50, buffer=2, concurrency=3, max_staleness=2):
    options = {"buffer": buffer, "concurrency": concurrency, "max_staleness": max_staleness}
    return RunSpec(MODEL, "sine", "fed_buff", rounds, 1, {}, options)


class PlayedAggregator:
    """Takes the first update of a slot; knows which are open."""

    def __init__(self, run):
        self.strategy = run.make_strategy()
        self.slots = self.strategy.agents_per_round
        self.window = Window(run.rounds * self.slots, self.strategy.concurrency, 0, ())
        self.version = self.buffered = 0
        self.places = []

    def change(self, closed=(), **more):
        about = {"open_slots": self.window.open, "closed": closed, "parameters": b"v" * 4612}
        return ModelChange(self.version, **(about | more))

    def take(self, assignment_id, base):
        """What is told of an update; None when nothing is."""
        assignment = parse_assignment_id(assignment_id)
        number = assignment.round * self.slots + assignment.slot
        if self.window.is_done(number):
            return None
        assert number in self.window.open, "a slot was given out that is not open"
        if self.version - base > self.strategy.max_staleness:
            return self.change(refused=[RefusedUpdate(assignment_id, "too old", stale=True)])
        self.window.finish(number)
        self.places.append(number)
        self.buffered += 1
        if self.buffered < self.slots:
            return self.change()
        closed = ClosedRound(self.version, self.slots, 0.5, 1, 1, 0.1, 0)
        self.version, self.buffered = self.version + 1, 0
        return self.change([closed])


class Harness:
    """A dispatcher, its aggregator and the time. working: agent -> (assignment id, base)."""

    def __init__(self, **options):
        self.now, self.sessions = 0.0, 0
        self.core = Dispatcher(RULES)
        self.model = PlayedAggregator(spec(**options))
        self.names, self.working, self.withdrawn = {}, {}, []
        self.core.add_run("run", spec(**options), NEEDS)
        self.perform(self.core.model_changed("run", self.model.change(whole=True), 0.0))

    def perform(self, actions):
        for action in actions:
            if isinstance(action, SendAssignment):
                name = self.names[action.session]
                self.working[name] = (action.assignment.id, action.work.version)
            elif isinstance(action, Withdraw):
                self.withdrawn.append((self.names[action.session], action.assignment_id))
        return actions

    def attach(self, *names, in_hand=()):
        for name in names:
            self.sessions += 1
            self.names[self.sessions] = name
            hello = Attendance(self.sessions, name, "one", Capabilities(), in_hand)
            self.perform(self.core.attach(hello, self.now))

    def submit(self, name):
        assignment_id, base = self.working.pop(name)
        change = self.model.take(assignment_id, base)
        return [] if change is None else self.tell(change)

    def tell(self, change):
        return self.perform(self.core.model_changed("run", change, self.now))

    def pass_time(self, seconds):
        self.now += seconds
        for session in self.names:
            self.core.heard(session, self.now)
        return self.perform(self.core.tick(self.now))

    @property
    def run(self):
        return self.core.runs["run"]


def test_slots_of_later_rounds_are_given_out_beside_earlier_ones():
    fleet = Harness()
    fleet.attach("a", "b", "c", "d")
    assert fleet.working == {
        "a": ("run-0-0-0", 0),
        "b": ("run-0-1-0", 0),
        "c": ("run-1-0-0", 0),
    }
    assert fleet.core.message(fleet.run) == ""


def test_whoever_is_done_begins_at_once_from_the_newest_version():
    fleet = Harness()
    fleet.attach("a", "b", "c")
    fleet.submit("c")
    assert fleet.working["c"] == ("run-1-1-0", 0)
    actions = fleet.submit("a")
    assert fleet.working["a"] == ("run-2-0-0", 1)
    assert [a.closed.round for a in actions if isinstance(a, RoundClosed)] == [0]
    assert fleet.working["b"] == ("run-0-1-0", 0)
    assert fleet.withdrawn == []


def test_a_silent_agent_holds_up_no_version():
    fleet = Harness(max_staleness=100)
    fleet.attach("slow", "b", "c")
    for version in range(1, 41):
        fleet.submit("b")
        fleet.submit("c")
        assert fleet.model.version == version
    assert fleet.working["slow"] == ("run-0-0-0", 0)


def test_what_is_too_old_is_taken_back_and_begins_anew():
    fleet = Harness(max_staleness=2)
    fleet.attach("slow", "b", "c")
    for _ in range(2):
        fleet.submit("b")
        fleet.submit("c")
    assert fleet.withdrawn == []
    fleet.submit("b")
    fleet.submit("c")
    assert fleet.withdrawn == [("slow", "run-0-0-0")]
    assert dict(fleet.working.values())["run-0-0-1"] == 3
    assert set(fleet.working) == {"slow", "b", "c"}
    assert fleet.run.round.reassignments == 0


def test_a_slot_past_its_deadline_goes_to_who_is_free():
    fleet = Harness(max_staleness=100)
    fleet.attach("a", "b", "c", "d")
    assert "d" not in fleet.working
    fleet.pass_time(61)
    assert fleet.working["d"] == ("run-0-0-1", 0)
    fleet.submit("d")
    assert ("a", "run-0-0-0") in fleet.withdrawn
    assert fleet.core.fleet.agents["a"].working.id == fleet.working["a"][0] != "run-0-0-0"


def test_past_its_deadline_a_slow_agent_keeps_its_slot_while_there_are_others():
    fleet = Harness(max_staleness=100, rounds=5)
    fleet.attach("slow", "b", "c")
    fleet.pass_time(61)
    for name in ("b", "c", "b", "c", "b", "c", "b"):
        fleet.submit(name)
    assert {assignment_id for assignment_id, _ in fleet.working.values()} == {
        *("run-0-0-0", "run-4-1-0", "run-4-0-0")
    }
    fleet.submit("c")
    assert fleet.working["c"] == ("run-0-0-1", 4)  # nothing else is left
    fleet.submit("slow")
    assert ("c", "run-0-0-1") in fleet.withdrawn


def test_a_stale_update_is_not_held_against_its_agent():
    fleet = Harness()
    fleet.attach("a")
    for attempt in range(MAX_FAILURES + 2):
        assert fleet.working["a"][0].startswith("run-")
        refused = RefusedUpdate(fleet.working["a"][0], "too old", stale=True)
        fleet.tell(fleet.model.change(refused=[refused]))
        assert fleet.core.fleet.agents["a"].working is not None, attempt
    assert fleet.core.fleet.agents["a"].unfit == {}


def test_a_refused_update_is_held_against_its_agent():
    fleet = Harness()
    fleet.attach("a")
    for _ in range(MAX_FAILURES):
        fleet.tell(fleet.model.change(refused=[RefusedUpdate(fleet.working["a"][0], "nan")]))
    assert (fleet.run.status, fleet.run.is_ending) == (RunStatus.FAILED, True)


def test_an_agent_that_comes_back_goes_on_with_what_it_has():
    fleet = Harness()
    fleet.attach("a", "b", "c")
    fleet.core.detach(1, 0.0)
    fleet.attach("a", in_hand=["run-0-0-0"])
    assert fleet.core.fleet.agents["a"].working.id == "run-0-0-0"
    for _ in range(3):
        fleet.submit("b")
        fleet.submit("c")
    assert ("a", "run-0-0-0") in fleet.withdrawn


def test_what_an_earlier_life_gave_out_is_kept_until_its_refusal_may_have_been_missed():
    fleet = Harness()
    fleet.core = Dispatcher(RULES)
    fleet.core.add_run("run", spec(), NEEDS, RunStatus.RUNNING, 1000)
    fleet.attach("a", in_hand=["run-1-0-0"])
    fleet.tell(fleet.model.change(whole=True))
    assert fleet.core.fleet.agents["a"].working.id == "run-1-0-0"
    assert fleet.withdrawn == []
    fleet.tell(fleet.model.change(whole=True))
    assert fleet.withdrawn == [("a", "run-1-0-0")]
    assert fleet.working["a"] == ("run-0-0-1000", 0)


def test_the_end_of_the_aggregators_slots_is_the_end_of_the_run():
    fleet = Harness(rounds=2)
    fleet.attach("a", "b", "c", "d")
    for name in ("c", "d", "b"):
        fleet.submit(name) if name in fleet.working else None
    actions = []
    while fleet.working:
        actions += fleet.submit(next(iter(fleet.working)))
    assert [type(action) for action in actions if isinstance(action, EndRun)] == [EndRun]
    assert sorted(fleet.model.places) == [0, 1, 2, 3]


def test_large_models_of_any_version_are_fetched():
    fleet = Harness()
    fleet.attach("a")
    change = ModelChange(1, b"x" * (256 * 1024 + 4), open_slots=(2,))
    actions = fleet.core.model_changed("run", change, 0.0)
    (sent,) = [action for action in actions if isinstance(action, SendAssignment)]
    assert (sent.work.version, sent.work.parameters) == (1, b"")


NAMES = st.sampled_from("abcd")


class OverlappingRounds(RuleBasedStateMachine):
    """Agents come, go, are slow; both services restart: no slot is lost, none done twice."""

    @initialize(
        buffer=st.integers(1, 3), concurrency=st.integers(1, 5), max_staleness=st.integers(0, 2)
    )
    def begin(self, buffer, concurrency, max_staleness):
        self.spec = spec(6, buffer, concurrency, max_staleness)
        self.model = PlayedAggregator(self.spec)
        self.now, self.sessions, self.lives = 0.0, 0, 0
        self.agents = {name: (None, {}) for name in "abcd"}  # session, in hand: id -> base
        self.status = None
        self.watched = False
        self.core = Dispatcher(RULES)
        self.core.add_run("run", self.spec, NEEDS)
        self.connect()

    def perform(self, actions):
        for action in actions:
            if isinstance(action, EndRun):
                self.status = self.core.ended("run", self.model.version, "00").status
                continue
            session = getattr(action, "session", None)
            name = next((n for n, (s, _) in self.agents.items() if s == session), None)
            if isinstance(action, SendAssignment):
                assert len(self.agents[name][1]) == 0
                self.agents[name][1][action.assignment.id] = action.work.version
            elif isinstance(action, Withdraw) and name is not None:
                self.agents[name][1].pop(action.assignment_id, None)
            elif isinstance(action, CloseSession) and name is not None:
                self.agents[name] = (None, self.agents[name][1])

    def tell(self, change):
        if self.watched and "run" in self.core.runs:
            self.perform(self.core.model_changed("run", change, self.now))

    @rule()
    def connect(self):
        self.watched = True
        self.tell(self.model.change(whole=True))

    @rule(name=NAMES, forgets=st.booleans())
    def attach(self, name, forgets):
        self.sessions += 1
        held = {} if forgets else self.agents[name][1]
        self.agents[name] = (self.sessions, held)
        instance = f"{self.sessions}" if forgets else "same"
        hello = Attendance(self.sessions, name, instance, Capabilities(), list(held))
        self.perform(self.core.attach(hello, self.now))

    @rule(name=NAMES)
    def detach(self, name):
        session, held = self.agents[name]
        if session is not None:
            self.agents[name] = (None, held)
            self.perform(self.core.detach(session, self.now))

    @rule(name=NAMES)
    def submit(self, name):
        held = self.agents[name][1]
        if held:
            assignment_id = next(iter(held))
            change = self.model.take(assignment_id, held.pop(assignment_id))
            if change is not None:
                self.tell(change)

    @rule(name=NAMES)
    def decline(self, name):
        session, held = self.agents[name]
        if held and session is not None:
            assignment_id = next(iter(held))
            del held[assignment_id]
            self.perform(self.core.decline(session, assignment_id, "no", False, self.now))

    @rule(seconds=st.integers(1, 70))
    def pass_time(self, seconds):
        self.now += seconds
        for session, _ in self.agents.values():
            if session is not None:
                self.core.heard(session, self.now)
        self.perform(self.core.tick(self.now))

    @rule()
    def restart_coordinator(self):
        self.lives += 1
        self.watched = False
        self.agents = {name: (None, held) for name, (_, held) in self.agents.items()}
        self.core = Dispatcher(RULES)
        if self.status is None:
            self.core.add_run("run", self.spec, NEEDS, RunStatus.RUNNING, 1000 * self.lives)

    @invariant()
    def open_slots_are_worked_on_or_wait_for_an_idle_agent(self):
        run = self.core.runs.get("run")
        if run is None or run.round is None or not self.watched:
            return
        fleet = self.core.fleet
        assert set(run.round.unfinished()) == set(self.model.window.open)
        for slot in run.round.unfinished():
            place = divmod(slot, self.model.slots)
            working = [
                agent
                for agent in fleet.agents.values()
                if agent.working is not None and agent.working[1:3] == place
            ]
            assert working or slot in run.round.waiting
        assert not (run.round.waiting and fleet.pools["run"].idle)

    @invariant()
    def each_agent_has_one_assignment_of_its_own(self):
        held = [agent.working for agent in self.core.fleet.agents.values() if agent.working]
        assert len(held) == len(set(held))

    def teardown(self):
        """From wherever we are: when agents keep answering, the run ends with every slot once."""
        if not hasattr(self, "core"):
            return
        for name in "abcd":
            self.attach(name, forgets=True)
        self.connect()
        for _ in range(200):
            if self.status is not None:
                break
            for name in "abcd":
                self.submit(name)
            self.pass_time(6)
        assert self.status is RunStatus.FINISHED
        assert sorted(self.model.places) == list(range(6 * self.model.slots))


OverlappingRounds.TestCase.settings = settings(
    max_examples=80,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
test_whatever_happens_each_slot_is_done_once = pytest.mark.slow(OverlappingRounds.TestCase)

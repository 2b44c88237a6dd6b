"""Whatever the order of arrivals, losses, refusals and restarts: no slot is stuck, every run ends.

A small world around the dispatcher: an aggregator that takes the first update of a slot, agents
that forget nothing but their streams. Hypothesis chooses what happens next.
"""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.coordinator.core import Attendance, Dispatcher, Rules
from services.coordinator.fleet import Capabilities, Needs
from services.coordinator.runs import RunStatus
from services.coordinator.work import (
    ClosedRound,
    CloseSession,
    EndRun,
    ModelChange,
    RefusedUpdate,
    SendAssignment,
    SendBrief,
    Withdraw,
    parse_assignment_id,
)
from tinyfleet.model import builtin_model
from tinyfleet.run import RunSpec

MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
NEEDS = Needs("sine", 1000)
NAMES = st.sampled_from("abcde")
RUN_IDS = st.sampled_from(["x", "y", "z"])
ROUNDS = 3


class FakeAgent:
    def __init__(self, number):
        self.instance = 0
        self.session = None
        self.in_hand = []
        self.briefed = set()
        self.tasks = ("sine",) if number else ()


class FakeModel:
    """The aggregator's side of a run."""

    def __init__(self, slots):
        self.slots, self.version, self.received, self.ended = slots, 0, set(), False
        self.is_watched = False


class FleetMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.now = 0.0
        self.sessions = 0
        self.lives = 0
        self.core = Dispatcher(Rules(heartbeat_s=10, round_deadline_s=30))
        self.agents = {name: FakeAgent(number) for number, name in enumerate("abcde")}
        self.models = {}
        self.specs = {}
        self.statuses = {}

    # What the dispatcher wants

    def perform(self, actions):
        for action in actions:
            if isinstance(action, SendBrief | SendAssignment | Withdraw | CloseSession):
                self.deliver(action)
            elif isinstance(action, EndRun):
                self.end(action.run_id)

    def deliver(self, action):
        agent = next(a for a in self.agents.values() if a.session == action.session)
        if isinstance(action, SendBrief):
            assert action.run_id not in agent.briefed
            agent.briefed.add(action.run_id)
        elif isinstance(action, SendAssignment):
            assert agent.in_hand == [], "an agent is given a second assignment"
            assert action.assignment.run_id in agent.briefed
            agent.in_hand = [action.assignment.id]
        elif isinstance(action, Withdraw):
            agent.in_hand = [held for held in agent.in_hand if held != action.assignment_id]
        else:
            agent.session = None

    def end(self, run_id):
        model = self.models[run_id]
        model.ended = True
        run = self.core.ended(run_id, model.version, "00")
        if run is not None:
            self.statuses[run_id] = run.status

    # What happens

    @initialize(slots=st.integers(1, 4), names=st.lists(NAMES, max_size=4, unique=True))
    def begin(self, slots, names):
        for run_id in "xy":
            self.create(run_id, slots)
        for name in names:
            self.attach(name, restarted=False)
        self.connect("x")

    @rule(run_id=RUN_IDS, slots=st.integers(1, 4))
    def create(self, run_id, slots):
        if run_id in self.models:
            return
        options = {"agents_per_round": slots}
        self.specs[run_id] = RunSpec(MODEL, "sine", "reptile", ROUNDS, 1, {}, options)
        self.models[run_id] = FakeModel(slots)
        self.perform(self.core.add_run(run_id, self.specs[run_id], NEEDS))

    @rule(run_id=RUN_IDS)
    def connect(self, run_id):
        """The stream of the run's model begins, for the first time or anew."""
        if run_id in self.core.runs:
            model = self.models[run_id]
            model.is_watched = True
            self.tell(
                run_id,
                ModelChange(model.version, received=sorted(model.received), whole=True),
            )

    @rule(run_id=RUN_IDS)
    def disconnect(self, run_id):
        if run_id in self.models:
            self.models[run_id].is_watched = False
            self.perform(self.core.aggregator_lost(run_id, "waiting"))

    @rule(name=NAMES, restarted=st.booleans())
    def attach(self, name, restarted):
        agent = self.agents[name]
        if restarted:
            agent.instance += 1
            agent.in_hand = []
        agent.briefed = set()
        self.sessions += 1
        before, agent.session = agent.session, self.sessions
        hello = Attendance(
            self.sessions, name, str(agent.instance), Capabilities(tasks=agent.tasks), agent.in_hand
        )
        actions = self.core.attach(hello, self.now)
        replaced = [a for a in actions if isinstance(a, CloseSession) and a.session == before]
        assert len(replaced) == (before is not None)
        self.perform([a for a in actions if a not in replaced])

    @rule(name=NAMES)
    def detach(self, name):
        agent = self.agents[name]
        if agent.session is not None:
            gone, agent.session = agent.session, None
            self.perform(self.core.detach(gone, self.now))

    @rule(names=st.lists(NAMES, min_size=1, max_size=5))
    def submit_several(self, names):
        for name in names:
            self.submit(name)

    def submit(self, name):
        """An agent's update arrives; also one that is no longer attached may deliver."""
        agent = self.agents[name]
        if not agent.in_hand:
            return
        assignment = parse_assignment_id(agent.in_hand.pop(0))
        model = self.models[assignment.run_id]
        if model.ended or assignment.round != model.version or assignment.slot in model.received:
            return
        model.received.add(assignment.slot)
        if len(model.received) == model.slots:
            closed = ClosedRound(model.version, model.slots, 0.5, 1, 1, 0.1, 0)
            model.version, model.received = model.version + 1, set()
            self.tell(assignment.run_id, ModelChange(model.version, closed=[closed]))
        else:
            self.tell(assignment.run_id, ModelChange(model.version, received=[assignment.slot]))

    @rule(name=NAMES)
    def refuse(self, name):
        agent = self.agents[name]
        if agent.in_hand:
            held = agent.in_hand.pop(0)
            run_id = parse_assignment_id(held).run_id
            refused = [RefusedUpdate(held, "not finite")]
            self.tell(run_id, ModelChange(self.models[run_id].version, refused=refused))

    @rule(name=NAMES, permanent=st.booleans())
    def decline(self, name, permanent):
        agent = self.agents[name]
        if agent.in_hand and agent.session is not None:
            held = agent.in_hand.pop(0)
            self.perform(self.core.decline(agent.session, held, "no", permanent, self.now))

    @rule(seconds=st.integers(1, 40), silent=st.sets(NAMES, max_size=2))
    def pass_time(self, seconds, silent):
        self.now += seconds
        for name, agent in self.agents.items():
            if agent.session is not None and name not in silent:
                self.core.heard(agent.session, self.now)
        self.perform(self.core.tick(self.now))

    @rule(run_id=RUN_IDS)
    def stop(self, run_id):
        if run_id in self.core.runs and self.lives:  # most runs should get somewhere first
            self.perform(self.core.stop_run(run_id, self.now))

    @rule()
    def restart_coordinator(self):
        self.lives += 1
        for agent in self.agents.values():
            agent.session = None
        self.core = Dispatcher(self.core.rules)
        for run_id, model in self.models.items():
            model.is_watched = False
            if run_id not in self.statuses:
                self.core.add_run(
                    run_id, self.specs[run_id], NEEDS, RunStatus.RUNNING, 1000 * self.lives
                )

    def tell(self, run_id, change):
        if self.models[run_id].is_watched:
            self.perform(self.core.model_changed(run_id, change, self.now))

    # What always holds

    @invariant()
    def every_slot_is_received_or_worked_on_or_waits_for_an_idle_agent(self):
        fleet = self.core.fleet
        for run in self.core.runs.values():
            if run.round is None:
                continue
            for slot in run.round.unfinished():
                working = [
                    agent.name
                    for agent in fleet.agents.values()
                    if agent.working is not None
                    and agent.working[:3] == (run.run_id, run.round.version, slot)
                    and run.round.holder(agent.working) == agent.name
                ]
                assert working or slot in run.round.waiting
            if run.round.waiting:
                assert not fleet.pools[run.run_id].idle

    @invariant()
    def each_agent_has_one_assignment_of_its_own(self):
        held = [agent.working for agent in self.core.fleet.agents.values() if agent.working]
        assert len(held) == len(set(held))
        for agent in self.core.fleet.agents.values():
            if agent.working:
                assert agent.session is not None
                run = self.core.runs[agent.working.run_id]
                claimed = run.claims.get(agent.name) == agent.working
                assert claimed or run.round.holder(agent.working) == agent.name

    @invariant()
    def pools_hold_exactly_the_idle_agents_that_fit(self):
        fleet = self.core.fleet
        attached = [agent for agent in fleet.agents.values() if agent.session is not None]
        assert fleet.attached == len(attached)
        for run_id, pool in fleet.pools.items():
            fit = [agent for agent in attached if run_id not in agent.unfit]
            assert pool.fit == len(fit)
            assert set(pool.idle) == {agent.name for agent in fit if agent.working is None}

    def teardown(self):
        """From wherever we are: when agents keep answering, every run ends."""
        for name in "abcde":
            self.attach(name, restarted=True)
        for run_id in list(self.core.runs):
            self.connect(run_id)
        for _ in range(3 * ROUNDS * 4 * 2):
            if not self.core.runs:
                break
            for name in "abcde":
                self.submit(name)
            self.pass_time(5, set())
        assert not self.core.runs, "a run is stuck"


FleetMachine.TestCase.settings = settings(
    max_examples=200,
    stateful_step_count=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestFleet = FleetMachine.TestCase

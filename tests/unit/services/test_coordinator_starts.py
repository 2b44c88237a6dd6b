"""What the coordinator takes an agent to hold is what it holds: each gets exactly its start.

The dispatcher sends, an agent's own `HeldStarts` reads, hypothesis chooses what happens between.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agents.arrival import HeldStarts
from edge_agents.trainers.protocol import NotNow
from services.coordinator.core import REST_S, Attendance, Dispatcher, Rules
from services.coordinator.fleet import Capabilities, Needs
from services.coordinator.runs import RunStatus
from services.coordinator.work import ModelChange, SendAssignment
from tinyfleet.exchange import exchange_of
from tinyfleet.model import builtin_model
from tinyfleet.run import RunSpec
from tinyfleet.start_history import HELD_RUNS
from tinyfleet.v1 import coordinator_pb2
from tinyfleet.wire import plan_to_message

MODEL = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
RUNS = [f"run{number}" for number in range(HELD_RUNS + 2)]


def spec_of(precision="int8", changes=True, slots=2):
    options = {"down_precision": precision, "changes_only": changes, "agents_per_round": slots}
    return RunSpec(MODEL, "sine", "tiny_meta_fed", 10_000, 1, {}, options)


def model_of(run_id, version):
    """Parameters that move slowly, another way in each run."""
    return np.sin(np.arange(1153) * (RUNS.index(run_id) + 1) + 0.001 * version).astype("<f4")


class World:
    """A dispatcher, and agents that read what they are sent."""

    def __init__(self, spec, runs=RUNS):
        self.spec, self.exchange = spec, exchange_of(spec)
        self.core = Dispatcher(Rules(heartbeat_s=1e6, round_deadline_s=1e6))
        self.now, self.sessions = 0.0, 0
        self.versions = dict.fromkeys(runs, 0)
        self.held, self.in_hand, self.sent = {}, {}, []
        for run_id in runs:
            self.core.add_run(run_id, spec, Needs("sine", 1000))
            self.tell(run_id, 0)

    def tell(self, run_id, version):
        self.versions[run_id] = version
        change = ModelChange(version, model_of(run_id, version).tobytes())
        self.perform(self.core.model_changed(run_id, change, self.now))

    def attach(self, name):
        self.sessions += 1
        self.held[self.sessions] = HeldStarts()
        hello = Attendance(self.sessions, name, "one", Capabilities())
        self.perform(self.core.attach(hello, self.now))

    def session(self, name):
        agent = self.core.fleet.agents.get(name)
        return agent.session if agent else None

    def perform(self, actions):
        for action in actions:
            if isinstance(action, SendAssignment) and action.session in self.held:
                self.read(action)

    def read(self, action):
        """An agent's side: it takes the start in at once."""
        self.sent.append(action.work)
        message = coordinator_pb2.Assignment(
            run_id=action.assignment.run_id,
            base_version=action.work.version,
            plan=plan_to_message(action.work.plan),
            parameters=action.work.parameters,
            relative_to=action.work.relative_to,
        )
        self.in_hand[action.session] = action.assignment.id
        start = self.held[action.session].work(message, self.spec).start
        model = model_of(action.assignment.run_id, action.work.version)
        wanted = self.exchange.start(model)
        assert self.exchange.starts.write_whole(start) == self.exchange.starts.write_whole(wanted)

    def decline(self, name):
        session = self.session(name)
        actions = self.core.decline(session, self.in_hand[session], "no", False, self.now)
        self.perform(actions)

    def rest(self):
        self.now += REST_S
        self.perform(self.core.tick(self.now))


NAMES = st.sampled_from("abc")
EVENTS = st.one_of(
    st.tuples(st.just("advance"), st.sampled_from(RUNS), st.integers(1, 3)),
    st.tuples(st.just("attach"), NAMES, st.none()),
    st.tuples(st.just("detach"), NAMES, st.none()),
    st.tuples(st.just("decline"), NAMES, st.none()),
    st.tuples(st.just("rest"), NAMES, st.none()),
)


@given(st.lists(EVENTS, max_size=60), st.sampled_from(["float32", "float16", "int8"]))
def test_every_agent_gets_exactly_its_start(events, precision):
    world = World(spec_of(precision))
    for name in "abc":
        world.attach(name)
    for kind, who, steps in events:
        if kind == "advance":
            world.tell(who, world.versions[who] + steps)
        elif kind == "attach":
            world.attach(who)
        elif kind == "rest":
            world.rest()
        elif world.session(who) is not None and kind == "detach":
            world.perform(world.core.detach(world.session(who), world.now))
        elif world.session(who) in world.in_hand:
            world.decline(who)


def test_an_agent_is_sent_everything_once_and_then_what_changed():
    world = World(spec_of(slots=1), RUNS[:1])
    world.attach("a")
    for version in (1, 2, 5):
        world.tell("run0", version)
    assert [work.relative_to for work in world.sent] == [None, 0, 1, 2]
    sizes = [len(work.parameters) for work in world.sent]
    assert sizes[0] == 1122
    assert max(sizes[1:]) < sizes[0] / 4


def test_several_slots_of_a_round_cost_an_agent_its_start_once():
    world = World(spec_of(slots=2), RUNS[:1])
    world.attach("a")
    world.perform(world.core.model_changed("run0", ModelChange(0, received=[0]), 0.0))
    assert [work.relative_to for work in world.sent] == [None, 0]
    assert len(world.sent[1].parameters) == 8 + 2


def test_agents_that_hold_the_same_are_sent_the_same_bytes():
    world = World(spec_of(slots=2), RUNS[:1])
    for name in "ab":
        world.attach(name)
    world.tell("run0", 1)
    first, second = world.sent[-2:]
    assert first.relative_to == second.relative_to == 0
    assert first.parameters is second.parameters


def test_a_new_stream_holds_nothing():
    world = World(spec_of(slots=1), RUNS[:1])
    world.attach("a")
    world.attach("a")
    assert [work.relative_to for work in world.sent] == [None, None]


def test_an_agent_that_lost_its_start_declines_and_is_sent_everything():
    world = World(spec_of(slots=1), RUNS[:1])
    world.attach("a")
    world.held[1].forget()
    with pytest.raises(NotNow, match="version 0 is not held here: send all"):
        world.tell("run0", 1)
    world.decline("a")
    world.rest()
    assert [work.relative_to for work in world.sent] == [None, 0, None]


def test_without_changes_everything_is_sent_each_time():
    for precision, size in (("float32", 4480), ("float16", 2240), ("int8", 1122)):
        world = World(spec_of(precision, changes=False), RUNS[:1])
        world.attach("a")
        world.tell("run0", 1)
        assert [work.relative_to for work in world.sent] == [None, None]
        assert {len(work.parameters) for work in world.sent} == {size}


def test_a_version_that_was_not_told_is_fetched_and_what_is_held_stays():
    world = World(spec_of(slots=1), RUNS[:1])
    world.attach("a")
    large = world.core.model_changed("run0", ModelChange(1), 0.0)
    (sent,) = [action for action in large if isinstance(action, SendAssignment)]
    assert (sent.work.parameters, sent.work.relative_to) == (b"", None)
    world.tell("run0", 2)
    assert world.sent[-1].relative_to == 0


@pytest.mark.parametrize("told", [b"\0\0\xc0\x7f" * 1153, b"xxxx"])
def test_a_model_that_is_of_no_use_fails_the_run_in_one_line(told):
    core = Dispatcher(Rules())
    core.add_run("run0", spec_of("float32"), Needs("sine", 1000))
    core.model_changed("run0", ModelChange(0, told), 0.0)
    run = core.runs["run0"]
    assert run.status is RunStatus.FAILED
    assert run.message.startswith("the aggregator's model is of no use: ")
    assert "\n" not in run.message

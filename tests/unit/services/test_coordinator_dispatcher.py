"""The dispatcher's rules, one by one; `test_coordinator_machine` tries all their orders."""

import math

import numpy as np
import pytest

from services.coordinator.core import MAX_FAILURES, REST_S, Attendance, Dispatcher, Rules
from services.coordinator.fleet import Capabilities, Needs
from services.coordinator.runs import MAX_DIVERGED_ROUNDS, RunStatus
from services.coordinator.work import (
    ClosedRound,
    CloseSession,
    EndRun,
    ModelChange,
    RefusedUpdate,
    RoundClosed,
    SaveRun,
    SendAssignment,
    SendBrief,
    Totals,
    Withdraw,
)
from tinyfleet.model import builtin_model
from tinyfleet.run import RunSpec
from tinyfleet.simulation import federation

RULES = Rules(heartbeat_s=10, round_deadline_s=60)


def spec(slots=1, rounds=100):
    model = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    if slots == 1:
        return RunSpec(model, "sine", "tiny_reptile", rounds, seed=1)
    return RunSpec(model, "sine", "reptile", rounds, 1, {}, {"agents_per_round": slots})


def closed(round, diverged=0, updates=1):
    loss = math.nan if diverged >= updates else 0.5
    return ClosedRound(round, updates, loss, 32, 4612, 0.001, diverged)


class Harness:
    """A dispatcher, the time, and what it wants done, by kind."""

    def __init__(self, runs=1, slots=1, rounds=100, opened=True):
        self.now = 0.0
        self.core = Dispatcher(RULES)
        self.sessions = 0
        for number in range(runs):
            run_id = f"run{number}"
            self.core.add_run(run_id, spec(slots, rounds), Needs("sine", 1000))
            if opened:
                self.model(0, run_id=run_id, whole=True)

    def attach(self, name, instance="one", in_hand=(), **capabilities):
        self.sessions += 1
        hello = Attendance(self.sessions, name, instance, Capabilities(**capabilities), in_hand)
        return self.core.attach(hello, self.now)

    def model(self, version, run_id="run0", **change):
        return self.core.model_changed(
            run_id, ModelChange(version, parameters=b"x" * 4612, **change), self.now
        )

    def pass_time(self, seconds):
        self.now += seconds
        return self.core.tick(self.now)

    def keep_alive(self, seconds):
        """Time passes in which every attached agent sends heartbeats."""
        found = []
        for _ in range(round(seconds)):
            for session in range(1, self.sessions + 1):
                self.core.heard(session, self.now)
            found += self.pass_time(1)
        return found

    def agent(self, name):
        return self.core.fleet.agents[name]

    def message(self, run_id="run0"):
        return self.core.message(self.core.runs[run_id])


def given(actions):
    """(session, assignment id) of all work that is given out."""
    return [(a.session, a.assignment.id) for a in only(actions, SendAssignment)]


def only(actions, kind):
    return [action for action in actions if isinstance(action, kind)]


def test_slot_goes_to_the_agent_that_waits_longest():
    fleet = Harness(opened=False)
    fleet.attach("b")
    fleet.attach("a")
    assert given(fleet.model(0, whole=True)) == [(1, "run0-0-0-0")]


def test_brief_is_sent_once_per_stream_before_the_first_assignment():
    fleet = Harness()
    first = fleet.attach("a")
    assert [type(a) for a in first if isinstance(a, SendBrief | SendAssignment)] == [
        SendBrief,
        SendAssignment,
    ]
    assert only(fleet.model(1), SendBrief) == []
    assert only(fleet.attach("a"), SendBrief) == [SendBrief(2, "run0")]


def test_new_version_starts_the_next_round_at_once():
    fleet = Harness()
    fleet.attach("a")
    actions = fleet.model(1, closed=[closed(0)])
    assert given(actions) == [(1, "run0-1-0-0")]
    (sent,) = only(actions, SendAssignment)
    assert (sent.work.version, len(sent.work.parameters)) == (1, 4612)
    assert fleet.agent("a").updates == 1


def test_large_parameters_do_not_travel_in_assignments():
    fleet = Harness(opened=False)
    fleet.attach("a")
    change = ModelChange(0, parameters=b"x" * (256 * 1024 + 4), whole=True)
    (sent,) = only(fleet.core.model_changed("run0", change, 0), SendAssignment)
    assert sent.work.parameters == b""


def test_local_layers_do_not_travel_in_assignments():
    fleet = Harness(runs=0)
    model = builtin_model("mlp_32", (1, 1, 1), 1, "mean_squared_error")
    fleet.core.add_run("run0", RunSpec(model, "sine", "tiny_meta_fed", 9, 1), Needs("sine", 1000))
    fleet.attach("a")
    parameters = np.arange(1153, dtype="<f4").tobytes()
    change = ModelChange(2, parameters, whole=True)
    (sent,) = only(fleet.core.model_changed("run0", change, 0), SendAssignment)
    assert sent.work.plan.local == ("dense_3",)
    assert sent.work.parameters == parameters[: -4 * 33]


def test_agent_has_one_assignment_at_a_time():
    fleet = Harness(slots=3)
    assert given(fleet.attach("a")) == [(1, "run0-0-0-0")]
    assert given(fleet.attach("b")) == [(2, "run0-0-1-0")]
    assert given(fleet.model(0, received=[0])) == [(1, "run0-0-2-0")]


def test_runs_share_the_fleet_in_turns():
    fleet = Harness(runs=2, slots=4, opened=False)
    for name in "abcd":
        fleet.attach(name)
    first = fleet.model(0, run_id="run0", whole=True)
    assert len(given(first)) == 4
    fleet.model(0, run_id="run1", whole=True)
    freed = given(fleet.model(0, run_id="run0", received=[0]))
    freed += given(fleet.model(0, run_id="run0", received=[1]))
    freed += given(fleet.model(1, run_id="run0"))
    assert [run_of(assignment) for _, assignment in freed] == ["run1", "run1", "run1", "run0"]
    shared = given(fleet.model(0, run_id="run1", received=[0, 1, 2]))
    assert sorted(run_of(assignment) for _, assignment in shared) == ["run0", "run0", "run1"]


def run_of(assignment_id):
    return assignment_id.partition("-")[0]


def test_lost_agents_slot_goes_to_an_idle_agent_at_once():
    fleet = Harness()
    fleet.attach("a")
    fleet.attach("b")
    assert given(fleet.core.detach(1, 0)) == [(2, "run0-0-0-1")]


def test_returning_agent_keeps_what_it_has_in_hand():
    fleet = Harness()
    fleet.attach("a")
    fleet.core.detach(1, 0)
    assert only(fleet.attach("a", in_hand=["run0-0-0-0"]), SendAssignment | Withdraw) == []
    assert fleet.agent("a").working is not None


def test_returning_agent_keeps_its_work_beside_the_agent_that_got_the_slot():
    fleet = Harness()
    fleet.attach("a")
    fleet.attach("b")
    fleet.core.detach(1, 0)
    fleet.attach("a", in_hand=["run0-0-0-0"])
    actions = fleet.model(1, closed=[closed(0)])
    assert sorted(only(actions, Withdraw)) == [Withdraw(2, "run0-0-0-1"), Withdraw(3, "run0-0-0-0")]


@pytest.mark.parametrize(
    "stale", ["run0-7-0-0", "run0-0-9-0", "gone-0-0-0", "nonsense", "run0-0-0-0-0", "run0-٣-0-0"]
)
def test_work_that_is_not_wanted_is_withdrawn(stale):
    fleet = Harness()
    assert only(fleet.attach("a", in_hand=[stale]), Withdraw) == [Withdraw(1, stale)]


def test_two_agents_cannot_claim_the_same_assignment():
    fleet = Harness()
    fleet.attach("a")
    assert only(fleet.attach("b", in_hand=["run0-0-0-0"]), Withdraw) == [Withdraw(2, "run0-0-0-0")]


def test_work_in_hand_is_kept_over_a_restart_of_the_coordinator():
    fleet = Harness(slots=2, opened=False)
    assert only(fleet.attach("a", in_hand=["run0-5-1-0"]), SendAssignment | Withdraw) == []
    fleet.attach("b", in_hand=["run0-4-0-0"])
    actions = fleet.model(5, whole=True)
    assert only(actions, Withdraw) == [Withdraw(2, "run0-4-0-0")]
    assert given(actions) == [(2, "run0-5-0-0")]


def test_ids_of_an_earlier_life_are_not_used_again():
    core = Dispatcher(RULES)
    core.add_run("run0", spec(), Needs("sine", 1000), RunStatus.RUNNING, first_attempt=4711)
    core.attach(Attendance(1, "a", "one", Capabilities()), 0)
    assert given(core.model_changed("run0", ModelChange(5, whole=True), 0)) == [
        (1, "run0-5-0-4711")
    ]
    assert given(core.model_changed("run0", ModelChange(6), 0)) == [(1, "run0-6-0-0")]


def test_silent_agent_is_lost_after_three_heartbeats():
    fleet = Harness()
    fleet.attach("a")
    assert only(fleet.pass_time(30), CloseSession) == []
    assert only(fleet.pass_time(1), CloseSession) == [
        CloseSession(1, "no heartbeat for 30 s", replaced=False)
    ]
    assert given(fleet.attach("b")) == [(2, "run0-0-0-1")]


def test_slow_agent_keeps_its_work_and_another_one_gets_it_too_after_the_deadline():
    fleet = Harness()
    fleet.attach("slow")
    fleet.attach("idle")
    assert fleet.keep_alive(59) == []
    late = fleet.keep_alive(2)
    assert given(late) == [(2, "run0-0-0-1")]
    assert only(late, Withdraw | CloseSession) == []


def test_slow_agent_is_left_alone_when_nobody_else_is_there():
    fleet = Harness()
    fleet.attach("slow")
    assert only(fleet.keep_alive(200), SendAssignment | Withdraw | CloseSession) == []
    assert given(fleet.model(1)) == [(1, "run0-1-0-0")]


def test_loser_of_a_contested_slot_is_told():
    fleet = Harness()
    fleet.attach("slow")
    fleet.attach("fast")
    fleet.keep_alive(61)
    actions = fleet.model(1, closed=[closed(0)])
    assert Withdraw(1, "run0-0-0-0") in actions


def test_agent_that_declines_for_good_gets_no_more_of_the_run():
    fleet = Harness()
    fleet.attach("a")
    actions = fleet.core.decline(1, "run0-0-0-0", "no data", permanent=True, now=0)
    assert only(actions, SendAssignment) == []
    assert fleet.agent("a").unfit == {"run0": "it declined: no data"}
    assert "waiting for an agent that can draw samples for task 'sine'" in fleet.message()
    assert given(fleet.attach("b")) == [(2, "run0-0-0-1")]
    assert fleet.message() == ""


def test_agent_that_declines_once_rests_before_it_is_asked_again():
    fleet = Harness()
    fleet.attach("a")
    assert given(fleet.core.decline(1, "run0-0-0-0", "busy", permanent=False, now=0)) == []
    assert given(fleet.pass_time(REST_S - 1)) == []
    assert given(fleet.pass_time(1)) == [(1, "run0-0-0-1")]


def test_decline_of_somebody_elses_work_changes_nothing():
    fleet = Harness()
    fleet.attach("a")
    fleet.attach("b")
    assert fleet.core.decline(2, "run0-0-0-0", "mine", permanent=True, now=0) == []


@pytest.mark.parametrize(
    ("capabilities", "reason"),
    [
        ({"tasks": ("omniglot",)}, "it has no samples for task 'sine': start it with --data"),
        (
            {"memory_bytes": 990},
            "it has 990 bytes of memory, the run needs 1000: 10 bytes are missing",
        ),
    ],
)
def test_agent_that_does_not_fit_gets_no_work_and_the_run_says_so(capabilities, reason):
    fleet = Harness()
    assert given(fleet.attach("a", **capabilities)) == []
    assert fleet.agent("a").unfit == {"run0": reason}
    assert f"'a' does not: {reason}" in fleet.message()


def test_refused_slot_goes_to_a_different_agent():
    fleet = Harness()
    fleet.attach("bad")
    fleet.attach("good")
    actions = fleet.model(0, refused=[RefusedUpdate("run0-0-0-0", "not finite")])
    assert given(actions) == [(2, "run0-0-0-1")]


def test_refused_slot_goes_to_the_same_agent_if_there_is_no_other():
    fleet = Harness()
    fleet.attach("only")
    actions = fleet.model(0, refused=[RefusedUpdate("run0-0-0-0", "not finite")])
    assert given(actions) == [(1, "run0-0-0-1")]


def test_run_fails_with_the_reason_when_its_last_agent_is_refused_for_good():
    fleet = Harness()
    fleet.attach("only")
    for attempt in range(MAX_FAILURES):
        actions = fleet.model(0, refused=[RefusedUpdate(f"run0-0-0-{attempt}", "bad shape")])
    assert only(actions, EndRun) == [EndRun("run0")]
    run = fleet.core.runs["run0"]
    assert run.status is RunStatus.FAILED
    assert "'only'" in run.message
    assert "bad shape" in run.message


def test_accepted_update_clears_the_count_of_refusals():
    fleet = Harness()
    fleet.attach("only")
    for version in range(2 * MAX_FAILURES):
        fleet.model(version, refused=[RefusedUpdate(f"run0-{version}-0-0", "bad luck")])
        fleet.model(version + 1)
    assert fleet.core.runs["run0"].status is RunStatus.RUNNING


def test_restarted_agent_is_given_another_chance():
    fleet = Harness()
    fleet.attach("a")
    fleet.core.decline(1, "run0-0-0-0", "no data", permanent=True, now=0)
    assert given(fleet.attach("a", instance="one")) == []
    assert given(fleet.attach("a", instance="two")) == [(3, "run0-0-0-1")]


def test_newest_stream_of_a_name_is_the_agent():
    fleet = Harness()
    fleet.attach("a", instance="one")
    again = only(fleet.attach("a", instance="one"), CloseSession)
    assert again == [CloseSession(1, "this agent has opened a newer stream", replaced=True)]
    (other,) = only(fleet.attach("a", instance="two"), CloseSession)
    assert "another process attached as 'a'" in other.reason
    assert fleet.core.fleet.attached == 1
    assert fleet.core.detach(1, 0) == []
    assert fleet.core.fleet.attached == 1


def test_run_ends_after_its_last_round():
    fleet = Harness(rounds=1)
    fleet.attach("a")
    assert only(fleet.model(1, closed=[closed(0)]), EndRun) == [EndRun("run0")]
    run = fleet.core.ended("run0", 1, "ab" * 32)
    assert (run.status, run.parameters_sha256, run.progress.rounds_done) == (
        RunStatus.FINISHED,
        "ab" * 32,
        1,
    )
    assert fleet.core.runs == {}


def test_finished_run_frees_agents_that_came_back_with_work_in_hand():
    fleet = Harness(runs=1, rounds=1, opened=False)
    fleet.attach("a", in_hand=["run0-0-0-0"])
    assert Withdraw(1, "run0-0-0-0") in fleet.model(1, whole=True)
    assert fleet.agent("a").working is None


def test_stop_withdraws_the_work_and_is_idempotent():
    fleet = Harness()
    fleet.attach("a")
    actions = fleet.core.stop_run("run0", 0)
    assert Withdraw(1, "run0-0-0-0") in actions
    assert EndRun("run0") in actions
    assert SaveRun("run0") in actions
    assert fleet.core.stop_run("run0", 0) == []
    assert given(fleet.model(1)) == []


def test_stop_of_one_run_gives_its_agents_to_another():
    fleet = Harness(runs=2)
    fleet.attach("a")
    assert given(fleet.core.stop_run("run0", 0)) == [(1, "run1-0-0-0")]


def test_run_fails_with_a_remedy_when_training_always_diverges():
    fleet = Harness()
    fleet.attach("a")
    for version in range(MAX_DIVERGED_ROUNDS):
        actions = fleet.model(version + 1, closed=[closed(version, diverged=1)])
    run = fleet.core.runs["run0"]
    assert only(actions, EndRun) == [EndRun("run0")]
    assert run.status is RunStatus.FAILED
    assert "choose a lower inner_rate" in run.message


def test_one_finite_round_clears_the_count_of_diverged_ones():
    fleet = Harness()
    fleet.attach("a")
    for version in range(3 * MAX_DIVERGED_ROUNDS):
        lost = version % MAX_DIVERGED_ROUNDS != 0
        fleet.model(version + 1, closed=[closed(version, diverged=lost)])
    assert fleet.core.runs["run0"].status is RunStatus.RUNNING


def test_divergence_is_judged_as_in_the_simulator():
    assert MAX_DIVERGED_ROUNDS == federation.MAX_DIVERGED_ROUNDS


def test_model_that_is_lost_fails_the_run():
    fleet = Harness()
    fleet.model(5)
    fleet.model(0, whole=True)
    run = fleet.core.runs["run0"]
    assert run.status is RunStatus.FAILED
    assert "no longer has" in run.message


def test_run_that_the_aggregator_ended_fails():
    fleet = Harness()
    fleet.model(3, ended=True)
    assert fleet.core.runs["run0"].status is RunStatus.FAILED


def test_round_is_reported_with_its_time():
    fleet = Harness()
    fleet.attach("a")
    fleet.now = 1.5
    (report,) = only(fleet.model(1, closed=[closed(0)]), RoundClosed)
    assert (report.seconds, report.reassignments, report.closed.round) == (1.5, 0, 0)


def test_totals_are_what_the_aggregator_says():
    fleet = Harness()
    totals = Totals(updates=3, samples=96, bytes_up=3 * 4612, diverged=1, bytes_down=777)
    fleet.model(3, totals=totals)
    fleet.model(3, totals=totals, whole=True)  # told again after a reconnect
    progress = fleet.core.runs["run0"].progress
    assert (progress.samples, progress.diverged) == (96, 1)
    assert (progress.bytes_up, progress.bytes_down) == (3 * 4612, 777)


def test_work_in_flight_outlives_a_lost_aggregator():
    fleet = Harness()
    fleet.attach("a")
    fleet.core.aggregator_lost("run0", "waiting for the aggregator")
    assert fleet.message() == "waiting for the aggregator"
    assert only(fleet.model(0, whole=True), SendAssignment | Withdraw) == []
    assert fleet.message() == ""
    assert fleet.agent("a").working.id == "run0-0-0-0"


def test_agent_that_is_away_longest_is_forgotten_when_there_is_no_room():
    core = Dispatcher(Rules(max_agents=2))
    for session, name in enumerate("ab", 1):
        core.attach(Attendance(session, name, "one", Capabilities()), 0)
    assert not core.fleet.has_room("c")
    core.detach(1, 0)
    assert core.fleet.has_room("c")
    core.attach(Attendance(3, "c", "one", Capabilities()), 0)
    assert sorted(core.fleet.agents) == ["b", "c"]

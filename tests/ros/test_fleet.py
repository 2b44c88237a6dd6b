"""Whole fleets of nodes: paused in the middle of a run, side by side, in namespaces and domains."""

from __future__ import annotations

import itertools
import time

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from nodes import FINISHED, RUNNING, Observer
from std_srvs.srv import Trigger

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.client import Fleet
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task

TASK = make_task("sine", {})


def a_run(rounds, seed=1, strategy="tiny_reptile", **options):
    return make_run(TASK, strategy, rounds, seed, "mlp_32", options)


def expected(run):
    return simulate(run, TASK, make_learner(run.model))


@pytest.mark.parametrize(
    ("strategy", "options"),
    [("tiny_reptile", {}), ("tiny_meta_fed", {"agents_per_round": 2, "fraction": 0.1})],
)
def test_nodes_that_are_paused_in_the_middle_of_a_run_lose_nothing(
    strategy, options, fleet_of, observer
):
    """Each node in turn is deactivated and activated; the run ends in the simulator's bits."""
    fleet = fleet_of(agents=2)
    order = itertools.cycle(fleet.names)
    paused, next_at = [], 20

    def pause_one(rounds_done):
        nonlocal next_at
        if rounds_done is None or rounds_done < next_at:
            return
        name = next(order)
        assert observer.change(name, "deactivate"), name
        assert observer.state(name) == "inactive"
        assert observer.change(name, "activate"), name
        paused.append(name)
        next_at = rounds_done + 20

    run = a_run(1500 if strategy == "tiny_reptile" else 700, strategy=strategy, **options)
    state = fleet.finish(run, pause_one)
    assert set(paused) == set(fleet.names), "every node was paused at least once"
    simulated = expected(run)
    assert state.status == FINISHED
    assert state.parameters_sha256 == parameters_sha256(simulated.parameters)
    assert state.samples == simulated.samples
    for node in reversed(fleet.nodes):
        assert node.stop() == 0
        assert "Traceback" not in node.printed()


def test_a_pausing_agent_answers_meanwhile_and_delivers_what_it_trains(fleet_of, observer):
    """It trains for seconds in Python (the reference engine), which the executor must survive."""
    fleet = fleet_of(agents=1, engine="reference", drain_s=100)
    observer.until(lambda: observer.state("/agent_1") == "active")
    pause = observer.client(ChangeState, "/agent_1/change_state")
    with Fleet(fleet.address) as client:
        observer.until(lambda: client.list_agents(attached_only=True))
        run_id = client.create_run(a_run(100, samples=8_000)).run_id
        observer.until(lambda: client.get_run(run_id).status == RUNNING)
        answer = pause.call_async(ChangeState.Request(transition=Transition(label="deactivate")))
        observer.until(lambda: observer.state("/agent_1") == "deactivating")
        assert not answer.done()
        observer.until(answer.done, timeout_s=60)
        assert (answer.result().success, observer.state("/agent_1")) == (True, "inactive")
        observer.until(lambda: client.get_run(run_id).rounds_done == 1)
        assert client.list_agents(attached_only=True) == []
        client.stop_run(run_id)


def test_a_service_that_was_cleaned_up_goes_on_from_its_disk(fleet_of, observer):
    fleet = fleet_of(agents=1)
    stopped = []

    def stop_one(rounds_done):
        which = "aggregator" if not stopped else "coordinator"
        if rounds_done is not None and rounds_done > 50 * (1 + len(stopped)) and len(stopped) < 2:
            assert observer.call(Trigger, f"/{which}/stop").success
            port = (fleet.folder / f"{which}.port").read_text(encoding="utf-8").strip()
            set_listen(observer, which, port)
            assert observer.call(Trigger, f"/{which}/start").success
            stopped.append(which)

    run = a_run(600)
    state = fleet.finish(run, stop_one)
    assert stopped == ["aggregator", "coordinator"]
    assert state.parameters_sha256 == parameters_sha256(expected(run).parameters)


def set_listen(observer, which, address):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    listen = Parameter("listen", Parameter.Type.STRING, address).to_parameter_msg()
    request = SetParameters.Request(parameters=[listen])
    (result,) = observer.call(SetParameters, f"/{which}/set_parameters", request).results
    assert result.successful, result.reason


def test_checkpoint_has_the_newest_run_s_model_at_the_path_it_answers(fleet_of, observer):
    fleet = fleet_of(agents=1)
    empty = observer.call(Trigger, "/aggregator/checkpoint")
    assert (empty.success, empty.message) == (False, "there is no run yet: start one")
    run = a_run(30)
    state = fleet.finish(run)
    answer = observer.call(Trigger, "/aggregator/checkpoint")
    assert answer.success
    saved = load_checkpoint(fleet.nodes[0].log.parent / answer.message)
    assert (saved.run_id, saved.version, saved.run) == (state.run_id, 30, run)
    assert parameters_sha256(saved.parameters) == state.parameters_sha256
    assert observer.call(Trigger, "/aggregator/stop").success
    closed = observer.call(Trigger, "/aggregator/checkpoint")
    assert (closed.success, closed.message) == (
        False,
        "the node is unconfigured: configure it first",
    )


def test_fleets_in_two_namespaces_and_in_another_domain_do_not_meet(
    fleet_of, observer, another_domain
):
    """Three fleets at once on one machine; each run is its own fleet's, each seen where it is."""
    fleets = {
        "/north": fleet_of(namespace="/north", agents=1),
        "/south": fleet_of(namespace="/south", agents=1),
        "/west": fleet_of(
            namespace="/west", agents=1, environment={"ROS_DOMAIN_ID": str(another_domain)}
        ),
    }
    runs = {namespace: a_run(60, seed) for seed, namespace in enumerate(fleets)}
    for namespace, fleet in fleets.items():
        state = fleet.finish(runs[namespace])
        wanted = parameters_sha256(expected(runs[namespace]).parameters)
        assert state.parameters_sha256 == wanted, namespace
        with Fleet(fleet.address) as client:
            assert [agent.name for agent in client.list_agents()] == ["agent_1"]
    there = Observer(domain=another_domain)
    try:
        assert seen_by(observer) == {"/north", "/south"}
        assert seen_by(there) == {"/west"}
    finally:
        there.close()


def seen_by(observer):
    """The namespaces of the fleets whose diagnostics are heard, four nodes each."""
    heard = observer.collect(DiagnosticArray, "/diagnostics", 100)

    def names():
        return {status.name.partition(":")[0] for array in heard for status in array.status}

    spaces = {}
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        observer.spin(0.1)
    for name in names():
        spaces.setdefault(f"/{name.partition('/')[0]}", set()).add(name)
    assert {len(nodes) for nodes in spaces.values()} == {4}, spaces
    return set(spaces)

"""Each part as a lifecycle node: what the transitions do, seen from another process."""

from __future__ import annotations

import signal
import socket

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_srvs.srv import Trigger

SERVICES = ("coordinator", "aggregator", "metrics")
FREE = {"listen": "127.0.0.1:0", "storage": "memory"}
WHOLE_LIFE = (
    ("configure", "inactive"),
    ("activate", "active"),
    ("deactivate", "inactive"),
    ("activate", "active"),
    ("deactivate", "inactive"),
    ("cleanup", "unconfigured"),
)


def go(observer, which, *steps):
    for transition, state in steps:
        assert observer.change(which, transition), transition
        assert observer.state(which) == state


def test_every_node_goes_through_its_whole_life_twice_and_is_shut_down(start, observer):
    nodes = {which: start(which, **FREE) for which in SERVICES} | {"agent": start("agent")}
    for which, node in nodes.items():
        for _ in range(2):
            assert observer.state(which) == "unconfigured"
            go(observer, which, *WHOLE_LIFE)
        go(observer, which, ("unconfigured_shutdown", "finalized"))
        assert node.stop() == 0
        assert "Traceback" not in node.printed()


def test_a_service_listens_only_while_active_and_on_the_same_port_again(start, observer, tmp_path):
    def address():
        return (tmp_path / "port").read_text(encoding="utf-8").strip()

    def answers():
        host, _, port = address().rpartition(":")
        with socket.socket() as one:
            return one.connect_ex((host, int(port))) == 0

    node = start("metrics", port_file=tmp_path / "port", **FREE)
    go(observer, "metrics", ("configure", "inactive"), ("activate", "active"))
    first = address()
    assert answers()
    go(observer, "metrics", ("deactivate", "inactive"))
    assert not answers()
    go(observer, "metrics", ("activate", "active"))
    assert (address(), answers()) == (first, True)
    assert node.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("which", ["coordinator", "agent"])
def test_an_active_node_that_is_signalled_drains_and_ends_with_0(which, number, start, observer):
    node = start(which, autostart=True, **({} if which == "agent" else FREE))
    observer.until(lambda: observer.state(which) == "active")
    assert node.stop(number) == 0
    assert "transition=deactivate" in node.printed()
    assert "Traceback" not in node.printed()


def test_a_second_signal_does_not_cut_the_drain_short(start, observer):
    node = start("agent", autostart=True)
    observer.until(lambda: observer.state("agent") == "active")
    node.process.send_signal(signal.SIGINT)
    assert node.stop(signal.SIGINT) == 0


def test_shutting_down_an_active_node_drains_it(start, observer):
    node = start("aggregator", autostart=True, **FREE)
    observer.until(lambda: observer.state("aggregator") == "active")
    go(observer, "aggregator", ("active_shutdown", "finalized"))
    printed = node.printed()
    assert printed.index("transition=deactivate") < printed.index('transition="clean up"')


def test_a_transition_that_is_not_possible_is_refused_and_changes_nothing(start, observer):
    start("metrics", **FREE)
    assert not observer.change("metrics", "activate")
    unknown = ChangeState.Request(transition=Transition(id=77))
    assert not observer.call(ChangeState, "metrics/change_state", unknown).success
    named = ChangeState.Request(transition=Transition(label="configure"))
    assert observer.call(ChangeState, "metrics/change_state", named).success
    assert observer.state("metrics") == "inactive"


def test_an_address_that_is_taken_is_a_failure_with_a_line_and_can_be_tried_again(start, observer):
    taken = socket.create_server(("127.0.0.1", 0))
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    node = start("metrics", listen=address, storage="memory")
    assert observer.change("metrics", "configure")
    assert not observer.change("metrics", "activate")
    assert observer.state("metrics") == "inactive"
    assert f"cannot listen on {address}: the port is taken" in node.printed()
    taken.close()
    assert observer.change("metrics", "activate")


def test_two_nodes_on_one_state_folder_are_refused_by_configure(start, observer, tmp_path):
    folder = {"listen": "127.0.0.1:0", "state": tmp_path / "state"}
    start("metrics", namespace="/a", **folder)
    second = start("metrics", namespace="/b", **folder)
    assert observer.change("/a/metrics", "configure")
    assert not observer.change("/b/metrics", "configure")
    assert observer.state("/b/metrics") == "unconfigured"
    assert "is in use by process" in second.printed()
    assert observer.change("/a/metrics", "cleanup")
    assert observer.change("/b/metrics", "configure")


def test_triggers_start_pause_and_stop_and_say_the_state(start, observer):
    start("coordinator", **FREE)
    for trigger, state in (
        ("pause", "the node is unconfigured"),
        ("stop", "unconfigured"),
        ("start", "active"),
        ("start", "active"),
        ("pause", "inactive"),
        ("pause", "inactive"),
        ("start", "active"),
        ("stop", "unconfigured"),
        ("start", "active"),
    ):
        answer = observer.call(Trigger, f"coordinator/{trigger}")
        assert (answer.success, answer.message) == (not state.startswith("the"), state), trigger


def test_a_trigger_that_cannot_start_says_why(start, observer):
    start("agent", own_data="nowhere.npz")
    answer = observer.call(Trigger, "agent/start")
    assert (answer.success, observer.state("agent")) == (False, "unconfigured")
    assert answer.message.startswith("cannot read own data nowhere.npz")


def test_an_agent_that_cannot_go_on_pauses_itself_and_says_why(start, observer):
    """Nobody is reached for `give_up_s`: the program would end with 3."""
    node = start("agent", coordinator="127.0.0.1:9", give_up_s=0.3, reconnect_s=0.1)
    assert observer.change("agent", "configure")
    assert observer.change("agent", "activate")
    observer.until(lambda: observer.state("agent") == "inactive")
    assert "cannot go on, pausing" in node.printed()
    assert "no coordinator at 127.0.0.1:9" in node.printed()
    assert observer.change("agent", "activate")
    assert node.stop() == 0

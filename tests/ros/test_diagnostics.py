"""~/status and /diagnostics: what an operator sees of a node, and /rosout: what it says."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosgraph_msgs.msg import Clock

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
ROSOUT = QoSProfile(depth=1000, durability=DurabilityPolicy.TRANSIENT_LOCAL)
FREE = {"listen": "127.0.0.1:0", "storage": "memory"}
ABOUT = {
    "coordinator": {"lifecycle", "process", "fleet", "runs"},
    "aggregator": {"lifecycle", "process", "storage", "runs"},
    "metrics": {"lifecycle", "process", "storage"},
    "agent": {"lifecycle", "process", "member pi-1"},
}


def values(status):
    return {pair.key: pair.value for pair in status.values}


def of_node(arrays, node):
    """The newest diagnostics of a node by what they are about."""
    found = {}
    for array in arrays:
        for status in array.status:
            name, _, about = status.name.partition(": ")
            if name == node:
                found[about] = status
    return found


@pytest.mark.parametrize("which", ABOUT)
def test_an_active_node_tells_of_all_its_parts_once_a_second(which, start, observer):
    start(which, autostart=True, **({"name": "pi-1"} if which == "agent" else FREE))
    heard = observer.collect(DiagnosticArray, "/diagnostics")
    observer.until(lambda: set(of_node(heard, which)) == ABOUT[which], "all readings")
    memory = float(values(of_node(heard, which)["process"])["memory_mb"])
    assert 20.0 < memory < 300.0
    first, last = heard[-1].header.stamp.sec, len(heard)
    observer.until(lambda: len(heard) >= last + 3)
    assert 2 <= heard[-1].header.stamp.sec - first <= 4
    assert {status.hardware_id for status in heard[-1].status} == {heard[0].status[0].hardware_id}


def test_status_is_latched_and_comes_on_change_only(start, observer):
    start("metrics", **FREE)
    observer.until(lambda: observer.state("metrics") == "unconfigured")
    early = observer.collect(DiagnosticStatus, "/metrics/status", LATCHED)
    observer.until(lambda: early)  # found each other: the next ones replace this one
    for transition in ("configure", "activate", "deactivate"):
        assert observer.change("metrics", transition)
    observer.until(lambda: len(early) == 4)
    assert [one.message for one in early] == ["unconfigured", "inactive", "active", "inactive"]
    assert [values(one) for one in early][-1] == {"state": "inactive"}
    late = observer.collect(DiagnosticStatus, "/metrics/status", LATCHED)
    observer.until(lambda: late)
    observer.spin(2.5)
    assert (len(early), [one.message for one in late]) == (4, ["inactive"])
    assert (late[0].name, late[0].level) == ("metrics", DiagnosticStatus.OK)


def test_status_says_what_is_wrong_and_that_it_is_over(start, observer):
    """An agent whose coordinator comes late, goes and comes back; a transition that fails."""
    start("agent", autostart=True, name="pi-1", coordinator="127.0.0.1:17399", reconnect_s=0.2)
    heard = observer.collect(DiagnosticStatus, "/agent/status", LATCHED)
    observer.until(lambda: heard and heard[-1].level == DiagnosticStatus.WARN, "a warning")
    assert heard[-1].message.startswith("member pi-1: no coordinator, trying again")
    start("coordinator", listen="127.0.0.1:17399", storage="memory")
    observer.change("coordinator", "configure")
    observer.change("coordinator", "activate")
    observer.until(lambda: heard[-1].level == DiagnosticStatus.OK, "all well")
    arrays = observer.collect(DiagnosticArray, "/diagnostics")
    observer.until(lambda: "fleet" in of_node(arrays, "coordinator"))
    assert values(of_node(arrays, "coordinator")["fleet"])["attached_agents"] == "1"
    observer.until(lambda: "member pi-1" in of_node(arrays, "agent"))
    assert float(values(of_node(arrays, "agent")["member pi-1"])["stream_age_s"]) >= 0.0
    observer.change("coordinator", "deactivate")
    observer.until(lambda: heard[-1].level == DiagnosticStatus.WARN, "a warning again")
    observer.change("coordinator", "activate")
    observer.until(lambda: heard[-1].level == DiagnosticStatus.OK, "all well again")


def test_a_failed_transition_is_an_error_until_it_succeeds(start, observer):
    start("agent", name="a b")
    heard = observer.collect(DiagnosticStatus, "/agent/status", LATCHED)
    assert not observer.change("agent", "configure")
    observer.until(lambda: heard and heard[-1].level == DiagnosticStatus.ERROR)
    assert heard[-1].message.startswith("name must be ")


def test_log_lines_are_on_rosout_and_once_on_the_console(start, observer):
    lines = observer.collect(Log, "/rosout", ROSOUT)
    node = start("metrics", namespace="/site", autostart=True, **FREE)
    observer.until(lambda: any(one.msg.startswith("listening address=") for one in lines))
    (told,) = [one for one in lines if one.msg.startswith("listening address=")]
    assert (told.name, told.level) == ("site.metrics.hosting", Log.INFO)
    assert node.printed().count("listening address=") == 1


def test_log_lines_can_be_json(start, observer):
    node = start("metrics", autostart=True, log_format="json", **FREE)
    observer.until(lambda: observer.state("metrics") == "active")
    assert '"logger": "hosting", "message": "listening"' in node.printed()


def test_with_use_sim_time_stamps_are_the_simulation_s(start, observer):
    start("metrics", autostart=True, use_sim_time=True, **FREE)
    clock = observer.node.create_publisher(Clock, "/clock", 10)
    heard = observer.collect(DiagnosticArray, "/diagnostics")
    now = Clock()
    now.clock.sec = 12345

    def told():
        clock.publish(now)
        return heard and heard[-1].header.stamp.sec == 12345

    observer.until(told)


def test_names_are_relative_and_can_be_remapped(start, observer):
    remaps = ("-r", "__node:=brain", "-r", "~/status:=health", "-r", "/diagnostics:=/site/all")
    start("coordinator", namespace="/site", arguments=remaps, **FREE)
    assert observer.change("/site/brain", "configure")
    status = observer.collect(DiagnosticStatus, "/site/health", LATCHED)
    arrays = observer.collect(DiagnosticArray, "/site/all")
    observer.until(lambda: status and arrays)
    assert status[-1].name == "site/brain"
    assert "lifecycle" in of_node(arrays, "site/brain")

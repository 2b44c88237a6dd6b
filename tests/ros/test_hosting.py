"""What a hosted part may rely on, shown with one that fails as it is told."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Empty, String
from std_srvs.srv import Trigger

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
AFTER = {"configure": "unconfigured", "activate": "inactive", "deactivate": "active"}


def go_to(observer, state):
    if state != "unconfigured":
        assert observer.change("odd", "configure")
    if state == "active":
        assert observer.change("odd", "activate")


@pytest.mark.parametrize("step", AFTER)
def test_a_fault_of_ours_is_a_failure_with_a_traceback_and_the_node_stays(step, start, observer):
    node = start("odd", fails=step)
    go_to(observer, AFTER[step])
    assert not observer.change("odd", step)
    assert observer.state("odd") == AFTER[step]
    assert f"ValueError: {step} is broken" in node.printed()
    assert node.printed().count("Traceback") == 1
    status = observer.collect(DiagnosticStatus, "/odd/status", LATCHED)
    observer.until(lambda: status and status[-1].level == DiagnosticStatus.ERROR)
    assert status[-1].message == "internal error: ValueError"
    assert node.stop() == 0


@pytest.mark.parametrize("step", AFTER)
def test_a_refusal_is_a_failure_with_one_line(step, start, observer):
    node = start("odd", refuses=step)
    go_to(observer, AFTER[step])
    assert not observer.change("odd", step)
    line = f"{step} is refused: try another one"
    assert (node.printed().count(line), node.printed().count("Traceback")) == (1, 0)
    trigger = {"deactivate": "pause"}.get(step, "start")
    answer = observer.call(Trigger, f"/odd/{trigger}")
    assert (answer.success, answer.message) == (False, line)


@pytest.mark.parametrize(("kind", "line"), [("fails", "ValueError"), ("refuses", "is refused")])
def test_a_part_that_cannot_go_on_is_deactivated(kind, line, start, observer):
    node = start("odd", **{kind: "ended"})
    go_to(observer, "active")
    assert observer.call(Trigger, "/odd/end").success
    observer.until(lambda: observer.state("odd") == "inactive")
    assert line in node.printed()
    assert observer.change("odd", "activate")


def test_shutdown_cleans_up_even_when_deactivating_fails(start, observer):
    node = start("odd", fails="deactivate")
    go_to(observer, "active")
    assert node.stop() == 0
    assert 'transition done transition="clean up"' in node.printed()


def test_a_callback_that_raises_is_logged_and_the_others_go_on(start, observer):
    node = start("odd")
    go_to(observer, "active")
    poison = observer.node.create_publisher(Empty, "/poison", 10)
    ping = observer.node.create_publisher(Empty, "/ping", 10)
    heard = observer.collect(String, "/pong")
    observer.until(lambda: poison.get_subscription_count() and ping.get_subscription_count())
    poison.publish(Empty())
    observer.until(lambda: "a callback is broken" in node.printed())
    observer.until(lambda: ping.publish(Empty()) or heard)
    assert observer.state("odd") == "active"


def test_a_lifecycle_publisher_is_silent_unless_active(start, observer):
    start("odd")
    go_to(observer, "active")
    assert observer.change("odd", "deactivate")
    ping = observer.node.create_publisher(Empty, "/ping", 10)
    heard = observer.collect(String, "/pong")
    observer.until(ping.get_subscription_count)
    for _ in range(5):
        ping.publish(Empty())
        observer.spin(0.1)
    assert heard == []
    assert observer.change("odd", "activate")
    observer.until(lambda: ping.publish(Empty()) or heard)


def test_a_trigger_that_breaks_says_so_without_details(start, observer):
    node = start("odd", fails="odd")
    go_to(observer, "inactive")
    answer = observer.call(Trigger, "/odd/odd")
    assert (answer.success, answer.message) == (False, "internal error; the log has it")
    assert "ValueError: odd is broken" in node.printed()


def test_a_part_may_have_settings_of_its_own_and_readings(start, observer):
    start("odd", arguments=("-p", "more.factors:=[1.0, 2.5]"))
    assert observer.call(Trigger, "/odd/odd").message == "factors (1.0, 2.5)"
    heard = observer.collect(DiagnosticArray, "/diagnostics")
    observer.until(lambda: any(one.name == "odd: oddity" for a in heard for one in a.status))
    status = observer.collect(DiagnosticStatus, "/odd/status", LATCHED)
    observer.until(lambda: status)
    assert (status[-1].level, status[-1].message) == (DiagnosticStatus.WARN, "oddity: is odd")

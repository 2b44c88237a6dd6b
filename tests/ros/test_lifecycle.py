"""Each part as a lifecycle node: what the transitions do, seen from another process."""

from __future__ import annotations

import signal

import pytest

SERVICES = ("coordinator", "aggregator", "metrics")
FREE = {"listen": "127.0.0.1:0", "storage": "memory"}


@pytest.mark.parametrize("which", SERVICES)
def test_a_service_goes_through_the_whole_lifecycle_twice_and_ends_with_0(which, start, observer):
    node = start(which, **FREE)
    for _ in range(2):
        assert observer.state(which) == "unconfigured"
        for transition, state in (
            ("configure", "inactive"),
            ("activate", "active"),
            ("deactivate", "inactive"),
            ("activate", "active"),
            ("deactivate", "inactive"),
            ("cleanup", "unconfigured"),
        ):
            assert observer.change(which, transition), transition
            assert observer.state(which) == state
    assert node.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_active_node_that_is_signalled_drains_and_ends_with_0(number, start, observer):
    node = start("agent", autostart=True, name="pi-1")
    observer.until(lambda: observer.state("agent") == "active")
    assert node.stop(number) == 0
    assert "Traceback" not in node.printed()

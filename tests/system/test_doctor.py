"""The doctor looks at a real fleet: a healthy one is left alone, what is missing is named."""

from __future__ import annotations

import json

from tinyfleet.cli.local_fleet import LocalFleet


def test_a_healthy_fleet_has_no_problem_and_a_killed_service_is_named(fleet_of, tinyfleet):
    local = fleet_of(1)
    about = (
        *("doctor", "--coordinator", local.coordinator, "--aggregator", local.aggregator),
        *("--metrics", local.metrics, "--state", local.folder / "state", "--json"),
    )
    done = tinyfleet(*about)
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (0, 0), found
    told = {(one["about"], one["level"]): one["message"] for one in found["findings"]}
    for service in ("coordinator", "aggregator", "metrics"):
        assert "serves, version" in told[service, "ok"]
    assert told["clock", "ok"] == "agrees with the coordinator's"
    states = [one["message"] for one in found["findings"] if one["about"] == "state"]
    assert sum("used by process" in message for message in states) == 3

    member = next(member for member in local.members if member.name == "aggregator")
    member.command = ["sleep", "1000"]
    member.process.kill()
    member.process.wait()
    done = tinyfleet(*about)
    found = json.loads(done.stdout)
    assert (done.returncode, found["problems"]) == (4, 1), found
    (problem,) = [one for one in found["findings"] if one["level"] == "problem"]
    assert problem["about"] == "aggregator"
    assert problem["message"] == f"nobody listens at {local.aggregator}"


def test_a_fleet_with_certificates_is_left_alone_and_wants_one(tinyfleet, tmp_path):
    with LocalFleet(tmp_path / "fleet", 1, secure=True) as local:
        about = (
            *("doctor", "--coordinator", local.coordinator, "--aggregator", local.aggregator),
            *("--metrics", local.metrics, "--json"),
        )
        done = tinyfleet(*about, "--tls", local.tls)
        found = json.loads(done.stdout)
        assert (done.returncode, found["problems"]) == (0, 0), found
        (certificate,) = [one for one in found["findings"] if one["about"] == "certificate"]
        assert "more days" in certificate["message"]
        done = tinyfleet(*about)
        problems = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "problem"]
        assert done.returncode == 4
        assert "give --tls" in problems[0]["message"]

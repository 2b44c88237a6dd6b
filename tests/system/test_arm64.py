"""The agent's image for a Pi's processor, under QEMU: behaviour and bits, never time.

`make images-arm64-check` runs this; it has the kernel start such programs through QEMU first.
"""

from __future__ import annotations

import os
import re
import time

import pytest
from container_engine import ROOT, about, bounded, in_image, podman, succeed

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

ROUNDS = 10
SEED = 3
FINISHED = coordinator_pb2.RUN_STATUS_FINISHED
ENDED = (FINISHED, coordinator_pb2.RUN_STATUS_STOPPED, coordinator_pb2.RUN_STATUS_FAILED)
LIMIT_S = 300
EMULATED_BUILD_S = 3600  # a tenth of a processor's speed, and a machine with other work
POLL_S = 0.5
AGENT = "pi-arm64"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(4500),
    pytest.mark.skipif(
        os.environ.get("NIGHTLY") != "1", reason="minutes of emulation: make images-arm64-check"
    ),
]

TRAIN = f"""
import platform
from tinyfleet.learner import make_learner
from tinyfleet.model import parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task
import edge_agents.main

task = make_task("sine", {{}}, None)
run = make_run(task, "tiny_reptile", {ROUNDS}, {SEED}, "mlp_32", {{}})
learner = make_learner(run.model, "native")
print(platform.machine(), parameters_sha256(simulate(run, task, learner).parameters))
"""


@pytest.fixture(scope="module")
def image():
    """The agent's image for arm64, by what `deploy/build` said."""
    environment = {"ARCH": "arm64", "BASE": "bootstrap", "LIMIT_S": str(EMULATED_BUILD_S // 2)}
    said = succeed(["deploy/build", "agent"], EMULATED_BUILD_S, cwd=ROOT, env=environment)
    (name,) = re.findall(r"^images: (localhost/\S+)$", said, re.MULTILINE)
    return name


@pytest.fixture(scope="module")
def task():
    return make_task("sine", {}, None)


@pytest.fixture(scope="module")
def run(task):
    return make_run(task, "tiny_reptile", ROUNDS, SEED, "mlp_32", {})


@pytest.fixture(scope="module")
def expected(run, task):
    """What this machine's own processor ends with."""
    return parameters_sha256(simulate(run, task, make_learner(run.model, "native")).parameters)


@pytest.fixture
def agent_on(image):
    """Starts the image's agent on this machine's loopback; it ends with the test."""

    def start(coordinator):
        words = ("run", "--detach", "--rm", "--name", name, "--network", "host", "--read-only")
        podman(*words, "--no-healthcheck", image, "--name", AGENT, "--coordinator", coordinator)

    name = f"tinyfleet-arm64-{os.getpid()}"
    yield start
    bounded(["podman", "rm", "--force", "--time", "5", name])


def ended(fleet, run_id):
    """The run once it has ended."""
    deadline = time.monotonic() + LIMIT_S
    while (run := fleet.get_run(run_id)).status not in ENDED:
        assert time.monotonic() < deadline, run
        time.sleep(POLL_S)
    return run


def test_the_image_is_for_arm64(image):
    assert about(image)["Architecture"] == "arm64"


def test_the_c_learner_in_the_image_ends_in_the_bits_of_this_machine(image, expected):
    machine, sha256 = in_image(image, "python", "-c", TRAIN, limit_s=LIMIT_S).split()
    assert (machine, sha256) == ("aarch64", expected)


def test_an_agent_in_the_image_trains_to_the_bits_of_this_machine(
    agent_on, run, expected, tmp_path
):
    with LocalFleet(tmp_path / "fleet", 0) as local, Fleet(local.coordinator) as fleet:
        agent_on(local.coordinator)
        run_id = fleet.create_run(run).run_id
        done = ended(fleet, run_id)
        assert [agent.name for agent in fleet.list_agents(attached_only=True)] == [AGENT]
    assert (done.status, done.parameters_sha256) == (FINISHED, expected), done.message

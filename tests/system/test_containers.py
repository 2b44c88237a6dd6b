"""The images and the compose file, really: built on a Debian made here, started, disturbed.

The first build takes minutes; podman keeps its layers, so that the next one takes seconds.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import tarfile
import time

import numpy as np
import pytest
from container_engine import (
    BUILD_LIMIT_S,
    CALL_LIMIT_S,
    ROOT,
    about,
    bounded,
    in_image,
    podman,
    succeed,
)

from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import make_learner
from tinyfleet.litert.graph import Graph
from tinyfleet.model import initial_parameters, parameters_sha256
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import make_task

COMPOSE = ROOT / "deploy" / "compose.yaml"
SERVICES = ("coordinator", "aggregator", "metrics")
AGENTS = ("pi-1", "pi-2")
ROLES = ("coordinator", "aggregator", "metrics", "agent", "agent-litert", "agent-emulator")
USER = 10001  # MUST match deploy/containers/Containerfile
ROUNDS = 240
MB = 10**6
PATIENCE_S = 120

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers are made as root here"),
    pytest.mark.needs_package("podman", command="podman"),
    pytest.mark.needs_package("mmdebstrap", command="mmdebstrap"),
    pytest.mark.needs_package("runc", command="runc"),
    pytest.mark.needs_package("gcc-arm-none-eabi", command="arm-none-eabi-gcc"),
    pytest.mark.needs_package("podman-compose", module="podman_compose"),
]


@pytest.fixture(scope="module")
def images():
    """The image of each role, by what `deploy/build` said."""
    said = succeed(["deploy/build"], BUILD_LIMIT_S, cwd=ROOT, env={"BASE": "bootstrap"})
    names = re.findall(r"^images: (localhost/\S+)$", said, re.MULTILINE)
    return dict(zip(ROLES, names, strict=True))


def test_an_agent_adds_less_than_120_mb_to_its_base(images):
    base = images["agent"].split("/agent:")[0] + "/debian-bookworm:amd64"
    added = about(images["agent"])["Size"] - about(base)["Size"]
    assert 50 * MB < added < 120 * MB


@pytest.mark.parametrize("role", ROLES)
def test_an_image_runs_as_nobody_in_particular_and_asks_for_its_health(images, role):
    found = about(images[role])
    assert found["Config"]["User"] == f"{USER}:{USER}"
    assert found["Healthcheck"]["Test"][0] == "CMD"
    assert in_image(images[role], "id", "-u").strip() == str(USER)


@pytest.mark.parametrize("role", ROLES)
def test_no_compiler_no_installer_and_no_tests_are_in_an_image(images, role):
    tools = "command -v cc gcc cpp make ld as pip pip3"
    tests = "find /opt /usr/lib/python3* -type d -name tests"
    assert in_image(images[role], "sh", "-c", f"{tools}; {tests}; true").split() == []


@pytest.mark.parametrize("role", ["agent", "agent-litert", "agent-emulator"])
def test_an_agent_has_none_of_the_servers_dependencies(images, role):
    theirs = ("alembic", "click", "grpc_health", "grpc_reflection", "services", "sqlalchemy")
    script = f"import importlib.util as u; print([n for n in {theirs} if u.find_spec(n)])"
    assert in_image(images[role], "python", "-c", script).strip() == "[]"


def test_an_agent_with_litert_computes_features(images, tmp_path):
    model = make_run(make_task("sine", {}), "tiny_reptile", 1, 1, "mlp_32").model
    file = float_tflite(model, initial_parameters(model, 1))
    rows = np.linspace(-2, 2, 5, dtype=np.float32)[:, np.newaxis]
    script = f"""
import numpy
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph

rows = numpy.linspace(-2, 2, 5, dtype=numpy.float32)[:, numpy.newaxis]
print(Graph(TfliteFile(bytes.fromhex({file.content.hex()!r})))(rows).tobytes().hex())
"""
    said = in_image(images["agent-litert"], "python", "-c", script)
    assert said.strip() == Graph(file)(rows).tobytes().hex()


@pytest.mark.parametrize("role", ROLES)
def test_no_secret_is_in_an_image(images, role, tmp_path):
    archive = tmp_path / "image.tar"
    podman("save", "--quiet", "--format", "docker-archive", "-o", archive, images[role])
    with tarfile.open(archive) as file:
        assert any(member.name.endswith("layer.tar") or ".tar" in member.name for member in file)
    scan = [sys.executable, ROOT / "dev" / "check_secrets.py", archive]
    succeed(scan)


class Site:
    """The compose file, with certificates, under a project name and an address of its own."""

    def __init__(self, folder, images):
        self.folder = folder
        tag = images["agent"].rpartition(":")[2]
        prefix = images["agent"].rpartition("/")[0]
        self._project = f"tinyfleet-test-{os.getpid()}"
        self._env = {"SITE": str(folder), "TAG": tag, "PREFIX": prefix, "PUBLISH": "127.0.0.77"}

    def compose(self, *words, limit_s=CALL_LIMIT_S):
        command = [sys.executable, "-m", "podman_compose", "--profile", "operator", "-f", COMPOSE]
        return succeed([*command, "-p", self._project, *words], limit_s, env=self._env)

    def operator(self, *words):
        return self.compose("run", "--rm", "-T", "--no-deps", "operator", *words)

    def answer(self, *words):
        """What the operator's command says with --json."""
        return json.loads(self.operator(*words, "--json").splitlines()[-1])

    def container(self, service):
        label = f"label=com.docker.compose.service={service}"
        project = f"label=io.podman.compose.project={self._project}"
        return podman("ps", "-q", "--filter", label, "--filter", project).split()[0]

    def kill(self, service):
        """Like a crash: podman's own kill would keep the container from being started again."""
        pid = podman("inspect", "--format", "{{.State.Pid}}", self.container(service))
        os.kill(int(pid), signal.SIGKILL)

    def down(self):
        self.compose("down", "-v", "-t", "5")


@pytest.fixture
def site(images, tmp_path):
    folder = tmp_path / "site"
    folder.mkdir(mode=0o700)
    os.chown(folder, USER, USER)
    site = Site(folder, images)
    try:
        site.operator("ca", "init")
        for service in SERVICES:
            site.operator("ca", "issue", "service", service, "--out", service)
        site.operator("ca", "issue", "operator", "operator", "--out", "operator")
        site.compose("up", "-d", *SERVICES)
        until(lambda: all(is_healthy(site, service) for service in SERVICES), "the services")
        for agent in AGENTS:
            token = site.operator("ca", "token", agent).split()[-1]
            site.operator("agent", "join", "coordinator:7310", token, "--out", agent)
        site.compose("up", "-d", *AGENTS)
        yield site
    finally:
        site.down()


def until(condition, what):
    """Ask again until the condition holds; each question takes long enough to need no pause."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
    return found


def is_healthy(site, service):
    return bounded(["podman", "healthcheck", "run", site.container(service)]).returncode == 0


def members(site):
    return {agent["name"] for agent in site.answer("agents", "--attached")["agents"]}


def state_of(site, run_id):
    return site.answer("run", "show", run_id)


def ended(site, run_id):
    state = state_of(site, run_id)
    return state if state["status"] not in ("pending", "running") else None


def test_a_site_trains_survives_crashes_and_stops_in_order(site):
    everybody = {"pi-1", "pi-2", "pi-2.mps2-an386-1"}
    until(lambda: members(site) == everybody, "all members")
    for service in (*SERVICES, *AGENTS):
        assert is_healthy(site, service), service
    wanted = ("--task", "sine", "--model", "mlp_32", "--rounds", ROUNDS, "--seed", 3)
    run_id = site.answer("run", "start", *wanted)["run_id"]
    until(lambda: state_of(site, run_id)["rounds_done"] > 0, "the first round")
    site.kill("aggregator")
    site.kill("pi-1")
    state = until(lambda: ended(site, run_id), "the run's end")
    assert state["status"] == "finished", state
    run = make_run(make_task("sine", {}, None), "tiny_reptile", ROUNDS, 3, "mlp_32", {})
    expected = simulate(run, make_task("sine", {}, None), make_learner(run.model))
    assert state["parameters_sha256"] == parameters_sha256(expected.parameters)
    until(lambda: members(site) == everybody, "everybody, again")
    summary = site.answer("metrics", "summary", "--run", run_id)
    assert summary
    for service in ("pi-1", "coordinator"):
        stopped = site.container(service)
        podman("stop", "-t", "20", stopped)
        assert podman("inspect", "--format", "{{.State.ExitCode}}", stopped).strip() == "0"

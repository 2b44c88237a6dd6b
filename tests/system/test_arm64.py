"""The agent's images for a Pi's processor, under QEMU: behaviour and bits, never time.

`make images-arm64-check` runs this; it has the kernel start such programs through QEMU first.
"""

from __future__ import annotations

import os
import re
import time

import numpy as np
import pytest
from container_engine import ROOT, about, bounded, in_image, podman, succeed

from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import Fleet
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import make_learner
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph
from tinyfleet.model import builtin_model, initial_parameters, parameters_sha256
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


# LiteRT looks for a processor that it knows; QEMU 7.2 shows it the one of this machine.
PI_4 = (
    "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
    "CPU revision\t: 3\n\n"
)

EXTRACT = """
import pathlib, numpy
from tinyfleet.litert.file import load_tflite
from tinyfleet.litert.graph import Graph

rows = numpy.load("/files/rows.npy")
for name in ("body", "body_int8"):
    print(Graph(load_tflite(pathlib.Path(f"/files/{name}.tflite")))(rows).tobytes().hex())
"""


@pytest.fixture(scope="module")
def images():
    """The agent's images for arm64, by what `deploy/build` said."""
    environment = {"ARCH": "arm64", "BASE": "bootstrap", "LIMIT_S": str(EMULATED_BUILD_S // 2)}
    said = succeed(
        ["deploy/build", "agent", "agent-litert"], EMULATED_BUILD_S, cwd=ROOT, env=environment
    )
    names = re.findall(r"^images: (localhost/\S+)$", said, re.MULTILINE)
    return dict(zip(("agent", "agent-litert"), names, strict=True))


@pytest.fixture(scope="module")
def image(images):
    return images["agent"]


@pytest.fixture
def files(tmp_path):
    """A body in float32 and in int8, samples for it, and what a Pi says of its processor."""
    model = builtin_model("cnn_s", (28, 28, 1), 5, "softmax_cross_entropy")
    parameters = initial_parameters(model, SEED)
    rows = np.random.default_rng(SEED).uniform(0, 1, (8, model.inputs)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    whole = float_tflite(model, parameters)
    (tmp_path / "body.tflite").write_bytes(whole.content)
    (tmp_path / "body_int8.tflite").write_bytes(int8_tflite(model, parameters, rows).content)
    (tmp_path / "cpuinfo").write_text("".join(PI_4.format(core) for core in range(4)))
    tmp_path.chmod(0o755)
    return tmp_path


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


def test_an_extractor_in_the_image_gives_the_features_of_this_machine(images, files):
    words = ("run", "--rm", "--network", "none", "--read-only", "--entrypoint", "python")
    mounts = (f"--volume={files}:/files:ro", f"--volume={files / 'cpuinfo'}:/proc/cpuinfo:ro")
    said = podman(*words, *mounts, images["agent-litert"], "-c", EXTRACT, limit_s=LIMIT_S).split()
    rows = np.load(files / "rows.npy")
    there = [np.frombuffer(bytes.fromhex(line), np.float32) for line in said]
    graphs = [Graph(load_tflite(files / f"{name}.tflite")) for name in ("body", "body_int8")]
    here = [graph(rows).ravel() for graph in graphs]
    np.testing.assert_array_equal(there[0], here[0])
    # XNNPACK's int8 is wrong under QEMU 7.2 and replaced by kernels that round otherwise.
    np.testing.assert_allclose(there[1], here[1], atol=3 * graphs[1].output.scale)


def test_an_agent_in_the_image_trains_to_the_bits_of_this_machine(
    agent_on, run, expected, tmp_path
):
    with LocalFleet(tmp_path / "fleet", 0) as local, Fleet(local.coordinator) as fleet:
        agent_on(local.coordinator)
        run_id = fleet.create_run(run).run_id
        done = ended(fleet, run_id)
        assert [agent.name for agent in fleet.list_agents(attached_only=True)] == [AGENT]
    assert (done.status, done.parameters_sha256) == (FINISHED, expected), done.message

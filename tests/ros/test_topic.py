"""An agent that learns from a topic, with real publishers, services and processes."""

from __future__ import annotations

import math
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from node_tables import table_of
from rclpy.qos import QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Imu
from std_msgs.msg import Float32, Float32MultiArray, MultiArrayDimension, MultiArrayLayout
from std_srvs.srv import Trigger

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.local_fleet import LocalFleet
from tinyfleet.client import ENDED, Fleet
from tinyfleet.model.spec import parameters_sha256
from tinyfleet.predictions import LiveModel
from tinyfleet.run import RunSpec, make_run
from tinyfleet.tasks import make_task
from tinyfleet.v1 import coordinator_pb2

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "learn-from-a-topic.md"
SINE = make_task("sine", {})
RELIABLE = QoSProfile(depth=5000, reliability=ReliabilityPolicy.RELIABLE)
BOARD = {"device": "['emulated://host?name=board-1']", "no_host_training": "true"}
PATIENCE_S = 60.0
MEMORY_MB = 110  # what an agent on a topic may take, with rclpy
ARRAYS = {"stream.type": "std_msgs/Float32MultiArray"}
SHORT = [(0, []), (1, [1.0]), (7, [1.0])]  # axes and data in which the fields are not
PAIRS = ARRAYS | {"stream.fields": "['data[0]']", "stream.labels": "['data[1]']"}


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Callable[..., LocalFleet]]:
    """Starts the three services, with so many agents that are no nodes."""
    fleets: list[LocalFleet] = []

    def start(agents: int = 0, *options: str) -> LocalFleet:
        fleets.append(LocalFleet(tmp_path / f"fleet-{len(fleets)}", agents, options))
        return fleets[-1].__enter__()

    yield start
    for fleet in fleets:
        fleet.stop()


@pytest.fixture
def learner(start: Any, observer: Any, services: Any) -> Callable[..., Any]:
    """Starts services and an agent's node that attends; gives a client of the fleet."""

    def begin(*arguments: str, **parameters: object) -> Fleet:
        local = services()
        start(
            "agent",
            arguments=(*arguments, *_parameters(parameters)),
            coordinator=local.coordinator,
            name="pi-1",
            autostart=True,
        )
        fleet = Fleet(local.coordinator)
        observer.until(lambda: fleet.list_agents(attached_only=True), "the agent", PATIENCE_S)
        return fleet

    return begin


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _parameters(values: dict[str, object]) -> list[str]:
    return [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]


def run_of(strategy: str, rounds: int, **options: Any) -> RunSpec:
    return make_run(SINE, strategy, rounds, 3, "mlp_32", options)


def classes_run(folder: Path, inputs: int, rounds: int, samples: int) -> RunSpec:
    """A run of a model with so many inputs and 3 classes, of a table that no agent has."""
    rows = np.random.default_rng(1).normal(size=(120, inputs))
    np.savez(folder / "recorded.npz", inputs=rows, labels=np.repeat(np.arange(20), 6))
    task = make_task("table", {"ways": 3}, folder / "recorded.npz")
    return make_run(task, "tiny_reptile", rounds, 3, "mlp_32", {"samples": samples})


def ended(observer: Any, fleet: Fleet, run_id: str) -> Any:
    """The run's last state."""

    def last() -> Any:
        state = fleet.get_run(run_id)
        return state if state.status in ENDED else None

    state = observer.until(last, f"the end of run {run_id}", PATIENCE_S)
    assert state.status == coordinator_pb2.RUN_STATUS_FINISHED, state.message
    return state


def row(*values: float) -> Float32MultiArray:
    return Float32MultiArray(data=[float(value) for value in values])


def publish(observer: Any, publisher: Any, messages: list[Any], pause_s: float = 0.001) -> None:
    """All of them, once the node hears."""
    observer.until(publisher.get_subscription_count, "a subscription")
    for message in messages:
        publisher.publish(message)
        time.sleep(pause_s)


def greet(observer: Any, topic: Topic, publisher: Any, message: Any) -> int:
    """How many messages the node has once it hears a publisher whose messages are not repeated."""

    def heard() -> bool:
        publish(observer, publisher, [message])
        return int(topic.now()[2].get("received", 0)) > 0

    def same_twice() -> int:
        before = topic.now()[2]
        observer.until(lambda: topic.now()[2]["age_s"] != before["age_s"])
        now = topic.now()[2]
        return int(now["received"]) if now["received"] == before["received"] else 0

    observer.until(heard)
    return observer.until(same_twice)


class Topic:
    """What /diagnostics says of the agent's topic."""

    def __init__(self, observer: Any) -> None:
        self._heard = observer.collect(DiagnosticArray, "/diagnostics")
        self._observer = observer

    def now(self) -> tuple[int, str, dict[str, str]]:
        return self.of("topic")

    def of(self, what: str) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the newest reading of that."""
        for array in reversed(self._heard):
            for status in array.status:
                if status.name == f"agent: {what}":
                    values = {one.key: one.value for one in status.values}
                    return status.level[0], status.message, values
        return 0, "", {}

    def until(self, level: int, message: str) -> dict[str, str]:
        """Its values, once it says so."""
        self._observer.until(
            lambda: self.now()[0] == level and message in self.now()[1],
            f"{level} {message}, not {self.now()}",
            PATIENCE_S,
        )
        return self.now()[2]

    def until_counted(self, **counts: int) -> dict[str, str]:
        wanted = {name: str(count) for name, count in counts.items()}
        self._observer.until(
            lambda: wanted.items() <= self.now()[2].items(), str(wanted), PATIENCE_S
        )
        return self.now()[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "trainer"),
    [
        ("tiny_reptile", {}),
        ("reptile", {}),
        ("fed_prox", {}),
        pytest.param("tiny_reptile", BOARD, marks=pytest.mark.needs_package("gcc", command="gcc")),
    ],
    ids=["tiny_reptile", "reptile", "fed_prox", "tiny_reptile-board"],
)
def test_topic_ends_in_the_parameters_of_the_same_samples_from_a_file(
    strategy, trainer, learner, services, observer, tmp_path
):
    """With a burst that waits in the queue, and samples that come while a round waits for them."""
    run = run_of(strategy, 4)
    rule = run.make_strategy()
    samples = run.rounds * rule.agents_per_round * rule.plan(0).samples
    random = np.random.default_rng(5)
    inputs = random.uniform(-5, 5, samples).astype(np.float32)
    targets = np.sin(inputs)
    np.savez(tmp_path / "own.npz", inputs=inputs[:, None], targets=targets[:, None])
    with Fleet(services(1, "--own-data", str(tmp_path / "own.npz")).coordinator) as fleet:
        expected = ended(observer, fleet, fleet.create_run(run).run_id)
    with learner(**PAIRS, **trainer, **{"stream.reliable": "true"}) as fleet:
        publisher = observer.node.create_publisher(Float32MultiArray, "features", RELIABLE)
        messages = [row(x, t) for x, t in zip(inputs, targets, strict=True)]
        publish(observer, publisher, messages[:100])
        run_id = fleet.create_run(run).run_id
        publish(observer, publisher, messages[100:])
        state = ended(observer, fleet, run_id)
    assert state.parameters_sha256 == expected.parameters_sha256


@pytest.mark.slow
def test_500_hz_of_1_kb_are_consumed_without_loss_while_training(learner, observer, tmp_path):
    fields = ARRAYS | {"stream.fields": "['data[0:255]']", "stream.labels": "['data[255]']"}
    with learner(**fields, **{"stream.classes": 3}) as fleet:
        topic = Topic(observer)
        best_effort = QoSProfile(depth=5000, reliability=ReliabilityPolicy.BEST_EFFORT)
        publisher = observer.node.create_publisher(Float32MultiArray, "features", best_effort)
        run_id = fleet.create_run(classes_run(tmp_path, 255, rounds=30, samples=50)).run_id
        known = greet(observer, topic, publisher, Float32MultiArray(data=[0.0] * 256))
        random = np.random.default_rng(1)
        rows = random.uniform(-1, 1, (1500, 256)).astype(np.float32)
        rows[:, 255] = np.arange(1500) % 3
        publish(observer, publisher, [Float32MultiArray(data=one) for one in rows], 0.002)
        ended(observer, fleet, run_id)
        values = topic.until_counted(received=known + 1500, samples=known + 1500, taken=1500)
        assert float(topic.of("process")[2]["memory_mb"]) < MEMORY_MB
    assert [values[name] for name in ("dropped", "unused", "lost", "refused")] == ["0"] * 4


@pytest.mark.slow
def test_hostile_publisher_is_counted_and_the_run_goes_on(learner, observer):
    patience = {"stream.stale_s": "1.0", "stream.timeout_s": "3.0", "stream.queue": "64"}
    fields = ARRAYS | {"stream.fields": "['x[0]']", "stream.labels": "['x[1]']"}
    with learner(**fields, **patience, **{"stream.reliable": "true"}) as fleet:
        topic = Topic(observer)
        publisher = observer.node.create_publisher(Float32MultiArray, "features", RELIABLE)
        run_id = fleet.create_run(run_of("tiny_reptile", 4, samples=50)).run_id
        good = [in_axis(0.1 * index, 0.2) for index in range(400)]
        publish(observer, publisher, good[:60])
        bad = {
            "size": [laid_out([("x", size, size)], 0, data) for size, data in SHORT],
            "not_finite": [in_axis(math.nan, 1.0), in_axis(math.inf, 1.0)],
            "layout": [
                row(1, 2),
                laid_out([("x", 2**32 - 1, 2**32 - 1)] * 200, 2**32 - 1),
                laid_out([("x", 2, 0), ("x", 2**31, 1)], 0),
            ],
        }
        publish(observer, publisher, [one for kind in bad.values() for one in kind])
        topic.until(1, "refused")
        topic.until_counted(refused_size=3, refused_not_finite=2, refused_layout=3)
        topic.until(1, "no message")
        topic.until(2, "no message")
        assert fleet.get_run(run_id).status not in ENDED
        ended_while_publishing(observer, fleet, run_id, publisher, good)
        before = int(topic.now()[2]["received"])
        publish(observer, publisher, good, 0.0)  # as fast as it can, and nobody trains
        observer.until(lambda: int(topic.now()[2]["received"]) >= before + len(good))
        _, _, values = topic.now()
        total = sum(int(values[name]) for name in ("taken", "dropped", "unused"))
        assert int(values["samples"]) - 64 <= total <= int(values["samples"])
        assert int(values["unused"]) >= len(good) - 64
    assert observer.state("agent") == "active"


def in_axis(*values: float) -> Float32MultiArray:
    return laid_out([("x", len(values), len(values))], 0, values)


def laid_out(
    axes: list[tuple[str, int, int]], offset: int, data: Sequence[float] = (1.0, 2.0)
) -> Float32MultiArray:
    """An axis is label, size, stride."""
    dim = [MultiArrayDimension(label=a, size=b, stride=c) for a, b, c in axes]
    layout = MultiArrayLayout(dim=dim, data_offset=offset)
    return Float32MultiArray(layout=layout, data=list(data))


def ended_while_publishing(observer: Any, fleet: Fleet, run_id: str, publisher: Any, some: Any):
    """A declined round is given out again after a while: samples go on coming until then."""
    deadline = time.monotonic() + PATIENCE_S
    while fleet.get_run(run_id).status not in ENDED and time.monotonic() < deadline:
        publish(observer, publisher, some[:20])
    return ended(observer, fleet, run_id)


@pytest.mark.slow
def test_pause_does_not_wait_for_samples_and_the_run_goes_on_afterwards(learner, observer):
    with learner(**PAIRS, drain_s=600.0, **{"stream.reliable": "true"}) as fleet:
        topic = Topic(observer)
        publisher = observer.node.create_publisher(Float32MultiArray, "features", RELIABLE)
        run_id = fleet.create_run(run_of("tiny_reptile", 2, samples=50)).run_id
        publish(observer, publisher, [row(0.5, 0.5)] * 20)
        topic.until_counted(taken=20)
        answer = observer.call(Trigger, "/agent/pause")
        assert (answer.success, answer.message) == (True, "inactive")
        publish(observer, publisher, [row(0.5, 0.5)] * 20)  # nobody learns from these
        assert observer.call(Trigger, "/agent/start").success
        ended_while_publishing(observer, fleet, run_id, publisher, [row(0.5, 0.5)])


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ({"stream.type": "sensor_msgs/Image"}, "stream.type must be one of"),
        ({"stream.mean": "[1.0, 2.0]"}, "mean has 2 numbers for 1 fields"),
        ({"stream.fields": "['position[left]']"}, "which values of 'position' it means"),
        ({"own_data": "own.npz"}, "choose one of them"),
    ],
)
def test_settings_that_cannot_work_fail_to_configure_in_one_line(wrong, line, start, observer):
    node = start("agent", arguments=_parameters(PAIRS | wrong))
    assert not observer.change("agent", "configure")
    assert observer.state("agent") == "unconfigured"
    assert line in node.printed()
    assert "Traceback" not in node.printed()


def test_names_are_those_of_the_guide_from_configure_to_clean_up(start, observer):
    start("agent", arguments=_parameters(PAIRS | {"stream.label_topic": "true"}))
    assert observer.state("agent") == "unconfigured"
    before = table_of(observer, "agent").names
    row_of_a_name = re.compile(r"^\| (\w+) \| `(.*?)` \| (\S+) \|$", re.MULTILINE)
    expected = set(row_of_a_name.findall(GUIDE.read_text("utf-8")))
    assert len(expected) == 4

    def new() -> frozenset[tuple[str, str, str]]:
        return table_of(observer, "agent").names - before

    assert observer.change("agent", "configure")
    observer.until(lambda: new() == expected, f"{expected}, not {new()}")
    assert observer.change("agent", "cleanup")
    observer.until(lambda: not new(), "the end of all of them")


def test_help_names_the_stream_s_parameters():
    printed = subprocess.run(
        [sys.executable, "-m", "edge_agents.ros", "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "stream.window" in printed
    assert "messages in a row that make one input, oldest first (default: 1)" in printed


@pytest.mark.slow
def test_the_guide_s_agent_learns_predicts_and_writes_its_model(learner, observer, tmp_path):
    text = re.search(r"```yaml\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    (tmp_path / "hand.yaml").write_text(text[1])
    predictions = observer.collect(Float32MultiArray, "/agent/prediction")
    losses = observer.collect(Float32, "/agent/loss")
    address = f"127.0.0.1:{_free_port()}"
    with learner(
        *("--params-file", str(tmp_path / "hand.yaml")),
        *("-r", "features:=/imu/data", "-r", "labels:=/hand/action"),
        predict=address,
        **{"stream.checkpoint_dir": str(tmp_path)},
    ) as fleet:
        refused = observer.call(Trigger, "/agent/checkpoint")
        assert not refused.success
        assert "has learned from a topic" in refused.message
        imu = observer.node.create_publisher(Imu, "/imu/data", qos_profile_sensor_data)
        action = observer.node.create_publisher(Float32MultiArray, "/hand/action", 10)
        run = classes_run(tmp_path, 48, rounds=2, samples=10)
        run_id = fleet.create_run(run).run_id
        observer.until(imu.get_subscription_count)
        observer.until(action.get_subscription_count)
        deadline = time.monotonic() + PATIENCE_S
        while fleet.get_run(run_id).status not in ENDED and time.monotonic() < deadline:
            action.publish(row(1))
            for step in range(20):
                message = Imu()
                message.linear_acceleration.z = 9.81 + math.sin(step)
                publish(observer, imu, [message], 0.002)
        ended(observer, fleet, run_id)
        observer.until(lambda: predictions and losses)
        answer = observer.call(Trigger, "/agent/checkpoint")
        with LiveModel(address) as model:
            asked = model.predict(np.zeros((1, 48), np.float32))
    assert answer.success, answer.message
    checkpoint = load_checkpoint(Path(answer.message))
    assert asked.version.parameters_sha256 == parameters_sha256(checkpoint.parameters)
    assert asked.outputs.shape == (1, 3)
    assert (checkpoint.run_id, checkpoint.run.model) == (run_id, run.model)
    assert [one.size for one in predictions[-1].layout.dim] == [len(predictions[-1].data)] == [3]
    assert all(math.isfinite(one.data) and one.data >= 0 for one in losses)

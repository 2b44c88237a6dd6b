"""The topics of an agent's node that learns from one: what it subscribes to, what it publishes.

Messages come in the executor's thread, become samples there and are predicted on; what trains is
elsewhere. Losses are published by the thread that trains.
"""

from __future__ import annotations

from typing import Any

from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Float32, Float32MultiArray, MultiArrayDimension

from edge_agents.prediction.personal import Personal
from edge_agents.topic.learning import TopicLearning
from edge_agents.topic.readers import ARRAY, IMU, JOINTS
from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.topic import Topic
from tinyfleet.learner.protocol import Floats

MAX_DEPTH = 5000  # our choice: messages that the middleware keeps for a node that is busy
OUTPUTS_DEPTH = 10
_MESSAGES: dict[str, type[Any]] = {ARRAY: Float32MultiArray, IMU: Imu, JOINTS: JointState}


class TopicPort:
    """Learns from `features` (and `labels`), gives `~/prediction` and `~/loss`."""

    def __init__(self, node: Node, settings: StreamSettings) -> None:
        """Raises InvalidInput for settings that cannot work; until `open` nothing is on the net."""
        self.learning = TopicLearning(Topic(settings), Personal(self._publish_loss))
        self._node = node
        self._settings = settings
        self._subscriptions: list[Any] = []
        self._prediction: Any = None
        self._loss: Any = None

    def open(self) -> None:
        """Publish, and hear messages from now on."""
        node, quality = self._node, self._quality()
        self._prediction = node.create_publisher(Float32MultiArray, "~/prediction", OUTPUTS_DEPTH)
        self._loss = node.create_publisher(Float32, "~/loss", OUTPUTS_DEPTH)
        kind = _MESSAGES[self._settings.type]
        self._subscriptions = [
            node.create_subscription(
                kind, "features", self._hear, quality, event_callbacks=self._events()
            )
        ]
        if self._settings.label_topic:
            self._subscriptions.append(
                node.create_subscription(Float32MultiArray, "labels", self._hear_label, quality)
            )

    def close(self) -> None:
        """Hear and publish nothing more."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        for publisher in (self._prediction, self._loss):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._subscriptions, self._prediction, self._loss = [], None, None

    def _quality(self) -> QoSProfile:
        """That of sensor data, or reliable; as deep as the queue, so that bursts are kept."""
        kinds = ReliabilityPolicy
        return QoSProfile(
            depth=min(self._settings.queue, MAX_DEPTH),
            reliability=kinds.RELIABLE if self._settings.reliable else kinds.BEST_EFFORT,
        )

    def _events(self) -> SubscriptionEventCallbacks:
        topic = self.learning.topic
        return SubscriptionEventCallbacks(
            message_lost=lambda event: topic.hear_of_loss(event.total_count)
        )

    def _now(self) -> float:
        """The node's clock: that of the simulation with use_sim_time."""
        return float(self._node.get_clock().now().nanoseconds) / 1e9

    def _hear(self, message: Any) -> None:
        window = self.learning.topic.hear(message, self._now())
        if window is None:
            return
        outputs, publisher = self.learning.personal.predict(window), self._prediction
        if outputs is not None and publisher is not None:
            publisher.publish(_array(outputs))

    def _hear_label(self, message: Any) -> None:
        self.learning.topic.hear_label(message, self._now())

    def _publish_loss(self, loss: float) -> None:
        publisher = self._loss
        if publisher is not None:
            publisher.publish(Float32(data=loss))


def _array(outputs: Floats) -> Float32MultiArray:
    """The outputs of a model along one axis `output`."""
    message = Float32MultiArray(data=outputs)
    size = len(outputs)
    message.layout.dim = [MultiArrayDimension(label="output", size=size, stride=size)]
    return message

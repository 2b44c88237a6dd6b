"""The settings of learning from a topic. On a node their names begin with `stream.`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agents.topic.readers import TYPES
from tinyfleet.config import setting

MAX_WINDOW = 10_000
MAX_CLASSES = 4096
MAX_QUEUE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class StreamSettings:
    """What a stream of samples can be told; `edge_agents.topic.topic.Topic` checks the whole."""

    type: str = setting(
        "",
        help="type of the messages to learn from; empty: no topic",
        choices=("", *TYPES),
    )
    fields: tuple[str, ...] = setting(
        (),
        help="paths of the inputs: linear_acceleration.x, position[wheel_left], label[0:6], "
        "data[0:6] for an array as it lies",
        metavar="PATH",
    )
    labels: tuple[str, ...] = setting(
        (), help="paths of the targets, of the same message or of the topic labels", metavar="PATH"
    )
    label_topic: bool = setting(
        False,
        help="take the targets from the newest message on the topic labels",
    )
    label_age_s: float = setting(
        1.0,
        help="how old a message on the topic labels may be, seconds by the node's clock",
        low=0,
        high=86_400,
        metavar="SECONDS",
    )
    classes: int = setting(
        0,
        help="the label is the number of one of so many classes; 0: it is the target itself",
        low=0,
        high=MAX_CLASSES,
    )
    window: int = setting(
        1, help="messages in a row that make one input, oldest first", low=1, high=MAX_WINDOW
    )
    stride: int = setting(1, help="messages from one input to the next", low=1, high=MAX_WINDOW)
    mean: tuple[float, ...] = setting(
        (), help="subtracted from the fields, one number for all or one for each"
    )
    scale: tuple[float, ...] = setting(
        (), help="what the fields are then divided by, one number for all or one for each"
    )
    queue: int = setting(
        1024, help="samples that wait at most; the oldest is dropped", low=1, high=MAX_QUEUE
    )
    reliable: bool = setting(
        False, help="ask publishers to repeat what is lost; else the quality of sensor data"
    )
    checkpoint_dir: Path = setting(
        Path(), help="folder in which ~/checkpoint writes the model that this agent adapted"
    )
    stale_s: float = setting(
        2.0,
        help="a stream that is silent for longer is a warning, and its windows begin anew, seconds",
        low=0.01,
        high=86_400,
        metavar="SECONDS",
    )
    timeout_s: float = setting(
        10.0,
        help="a stream that is silent for longer is an error, and training gives up, seconds",
        low=0.01,
        high=86_400,
        metavar="SECONDS",
    )

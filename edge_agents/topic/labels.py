"""The target of a sample: from the same message, or the newest one of a topic of labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_agents.topic.readers import ARRAY, Reader, make_reader
from edge_agents.topic.refusals import Reason, RefusedMessage
from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.windows import finite_row
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats


class Labels:
    """Targets of `width` values."""

    def __init__(self, settings: StreamSettings) -> None:
        """Raises InvalidInput for paths that the messages do not have."""
        message_type = ARRAY if settings.label_topic else settings.type
        self._reader: Reader = make_reader(message_type, settings.labels)
        self._from_topic = settings.label_topic
        self._age_s = settings.label_age_s
        self._classes = settings.classes
        if self._classes and self._reader.width != 1:
            raise InvalidInput(
                f"the number of a class is one label, not {self._reader.width}: "
                "name one, or leave classes out for targets as they are"
            )
        self.width = self._classes or self._reader.width
        self._newest: tuple[Floats, float] | None = None

    def hear(self, message: Any, now: float) -> None:
        """A message came on the topic of labels; raises RefusedMessage, and keeps the last one."""
        self._newest = self._target(message), now

    def of(self, message: Any, now: float) -> Floats:
        """`(width,) float32`; now: the node's clock, seconds. Raises RefusedMessage."""
        if not self._from_topic:
            return self._target(message)
        if self._newest is None:
            raise RefusedMessage(Reason.NO_LABEL, "no message on the topic of labels yet")
        target, since = self._newest
        if not 0.0 <= now - since <= self._age_s:  # a clock may jump back
            raise RefusedMessage(Reason.OLD_LABEL, f"the newest label is {now - since:.3g} s old")
        return target

    def _target(self, message: Any) -> Floats:
        target = finite_row(self._reader.read(message))
        return self._one_hot(float(target[0])) if self._classes else target

    def _one_hot(self, number: float) -> Floats:
        if not (number.is_integer() and 0 <= number < self._classes):
            raise RefusedMessage(
                Reason.CLASS, f"{number:g} is no class: 0 to {self._classes - 1} are"
            )
        target = np.zeros(self._classes, np.float32)
        target[int(number)] = 1.0
        return target

"""A topic: what becomes of its messages, from their fields to the queues of those who learn."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from edge_agents.topic.labels import Labels
from edge_agents.topic.readers import make_reader
from edge_agents.topic.refusals import Reason, RefusedMessage
from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.stream import Sample, StreamSource
from edge_agents.topic.windows import Normalisation, Windows
from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Floats
from tinyfleet.logs import fields

MAX_INPUTS = 1_000_000  # our choice: values of one window
MAX_QUEUE_BYTES = 256 * 1024 * 1024  # our choice, like that of own data

log = logging.getLogger("topic")


@dataclass(frozen=True)
class TopicReading:
    """What a topic came to so far.

    received: messages. accepted: of them, those of use. samples: complete windows with a label.
    taken, dropped, unused: of all members, see `StreamCounts`. lost: before they got here. refused:
    messages and labels, by reason. age_s: since the last accepted message, or the beginning.
    refused_s, dropped_s, lost_s: since the last of that, inf where there was none.
    """

    received: int
    accepted: int
    samples: int
    taken: int
    dropped: int
    unused: int
    lost: int
    refused: dict[Reason, int]
    age_s: float
    refused_s: float
    dropped_s: float
    lost_s: float


class Topic:
    """Turns messages into samples, for each member that learns from them. One thread calls it."""

    def __init__(
        self, settings: StreamSettings, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """Raises InvalidInput when the settings contradict each other.

        timer: monotonic seconds, for ages.
        """
        self._settings = settings
        self._timer = timer
        self._fields = make_reader(settings.type, settings.fields)
        self._normalised = Normalisation(settings.mean, settings.scale, self._fields.width)
        self._windows = Windows(settings.window, settings.stride)
        self._labels = Labels(settings)
        self.widths = self._fields.width * settings.window, self._labels.width
        _check_sizes(settings, self.widths)
        self._streams: WeakSet[StreamSource] = WeakSet()
        self._refused: Counter[Reason] = Counter()
        self._received = self._accepted = self._samples = self._lost = 0
        self._began_at = self._accepted_at = timer()
        self._refused_at = self._lost_at = -math.inf
        self._before = -math.inf

    def for_a_member(self) -> StreamSource:
        """A queue of its own, from now on and for as long as somebody keeps it."""
        stream = StreamSource(
            self.widths, self._settings.queue, self._settings.timeout_s, self._timer
        )
        self._streams.add(stream)
        return stream

    def hear(self, message: Any, now: float) -> Floats | None:
        """Take a message; the input of the window that it completes, if it does.

        now: the node's clock, seconds. What is of no use is counted and interrupts the window.
        """
        self._received += 1
        if not 0.0 <= now - self._before <= self._settings.stale_s:
            self._windows.clear()
        self._before = now
        try:
            row = self._normalised(self._fields.read(message))
        except RefusedMessage as refused:
            self._windows.clear()
            self._refuse(refused)
            return None
        self._accepted += 1
        self._accepted_at = self._timer()
        window = self._windows.add(row)
        if window is not None:
            self._offer(window, message, now)
        return window

    def hear_label(self, message: Any, now: float) -> None:
        """Take a message of the topic of labels."""
        try:
            self._labels.hear(message, now)
        except RefusedMessage as refused:
            self._refuse(refused)

    def hear_of_loss(self, total: int) -> None:
        """So many messages never got here, all in all; what follows is no window with the last."""
        self._lost, self._lost_at = total, self._timer()
        self._windows.clear()

    def open(self) -> None:
        """Members learn from now on."""
        self._accepted_at = self._timer()
        for stream in list(self._streams):
            stream.open()

    def close(self) -> None:
        """Nobody has to wait for samples any more."""
        for stream in list(self._streams):
            stream.close()

    def reading(self) -> TopicReading:
        """The counters now; from any thread."""
        now, counts = self._timer(), [stream.counts for stream in list(self._streams)]
        return TopicReading(
            received=self._received,
            accepted=self._accepted,
            samples=self._samples,
            taken=sum(one.taken for one in counts),
            dropped=sum(one.dropped for one in counts),
            unused=sum(one.unused for one in counts),
            lost=self._lost,
            refused=dict(self._refused),
            age_s=now - self._accepted_at,
            refused_s=now - self._refused_at,
            dropped_s=min((now - one.dropped_at for one in counts), default=math.inf),
            lost_s=now - self._lost_at,
        )

    def _offer(self, window: Floats, message: Any, now: float) -> None:
        """The window as a sample, with the label of its last message, to all who learn."""
        try:
            sample = Sample(window, self._labels.of(message, now))
        except RefusedMessage as refused:
            self._refuse(refused)
            return
        self._samples += 1
        for stream in list(self._streams):
            stream.put(sample)

    def _refuse(self, refused: RefusedMessage) -> None:
        self._refused_at = self._timer()
        self._refused[refused.reason] += 1
        if self._refused[refused.reason] == 1:  # the counters tell the rest
            about = fields(reason=refused.reason, detail=refused)
            log.warning("a message of the topic is refused", extra=about)


def _check_sizes(settings: StreamSettings, widths: tuple[int, int]) -> None:
    if widths[0] > MAX_INPUTS:
        raise InvalidInput(
            f"a window of {settings.window} messages has {widths[0]} values, at most {MAX_INPUTS}: "
            "choose a smaller window or fewer fields"
        )
    if settings.queue * 4 * sum(widths) > MAX_QUEUE_BYTES:
        raise InvalidInput(
            f"a queue of {settings.queue} samples takes over {MAX_QUEUE_BYTES} bytes: "
            "choose a shorter queue"
        )
    if settings.timeout_s < settings.stale_s:
        raise InvalidInput("timeout_s must be at least stale_s: an error comes after the warning")

"""How a topic is doing, in one line, for diagnostics."""

from __future__ import annotations

from enum import IntEnum

from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.topic import TopicReading

REMEMBERED_S = 5.0  # our choice: a refusal or a drop is seen by who looks every second or two


class Level(IntEnum):
    """MUST match diagnostic_msgs/DiagnosticStatus."""

    OK = 0
    WARN = 1
    ERROR = 2


def health(reading: TopicReading, settings: StreamSettings) -> tuple[Level, str]:
    """The level, and what is the matter: the worst of it."""
    if reading.age_s > settings.stale_s:
        silent = reading.age_s > settings.timeout_s
        return Level.ERROR if silent else Level.WARN, _silence(reading)
    if reading.refused_s <= REMEMBERED_S:
        total = sum(reading.refused.values())
        return Level.WARN, f"messages are refused, {total} so far: the log says why"
    if reading.dropped_s <= REMEMBERED_S:
        return Level.WARN, f"samples come faster than they are learned, {reading.dropped} dropped"
    return Level.OK, "samples come"


def _silence(reading: TopicReading) -> str:
    what = "no message of use" if reading.refused_s < reading.age_s else "no message"
    return f"{what} for {reading.age_s:.1f} s"

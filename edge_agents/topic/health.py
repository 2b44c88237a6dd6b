"""How a topic is doing, for diagnostics."""

from __future__ import annotations

from edge_agents.topic.settings import StreamSettings
from edge_agents.topic.topic import TopicReading
from tinyfleet.readings import Level, Reading

REMEMBERED_S = 5.0  # our choice: a refusal or a drop is seen by who looks every second or two


def health(topic: TopicReading, settings: StreamSettings) -> Reading:
    """The worst that is the matter, and every counter; `refused_size` and the like by reason."""
    level, message = _worst(topic, settings)
    values: dict[str, object] = {
        "age_s": topic.age_s,
        "received": topic.received,
        "accepted": topic.accepted,
        "samples": topic.samples,
        "taken": topic.taken,
        "dropped": topic.dropped,
        "unused": topic.unused,
        "lost": topic.lost,
        "refused": sum(topic.refused.values()),
    }
    for reason, count in sorted(topic.refused.items()):
        values[f"refused_{reason.replace(' ', '_')}"] = count
    return Reading("topic", level, message, values)


def _worst(topic: TopicReading, settings: StreamSettings) -> tuple[Level, str]:
    if topic.age_s > settings.stale_s:
        silent = topic.age_s > settings.timeout_s
        return Level.ERROR if silent else Level.WARN, _silence(topic)
    if topic.refused_s <= REMEMBERED_S:
        return Level.WARN, "messages or labels are refused: the log says why"
    if topic.dropped_s <= REMEMBERED_S:
        return Level.WARN, "samples come faster than they are learned, the oldest are dropped"
    if topic.lost_s <= REMEMBERED_S:
        return Level.WARN, "messages are lost on their way here"
    return Level.OK, "samples come"


def _silence(topic: TopicReading) -> str:
    """Without a time: it is on ~/status, which tells changes."""
    return "no message of use" if topic.refused_s < topic.age_s else "no message"

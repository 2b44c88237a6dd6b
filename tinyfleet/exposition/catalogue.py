"""Under which name Prometheus gets what a process reads of itself; docs/metrics.md has the table.

Names end in their base unit, those of counters in `_total`. A counter counts since the process
started.
"""

from __future__ import annotations

from typing import NamedTuple


class Measure(NamedTuple):
    """One value of a reading, as a sample of a family.

    subject, value: the reading's first word and the value's name there. name: the family's. label:
    a label and its value, where the family has several such values.
    """

    subject: str
    value: str
    name: str
    label: tuple[str, str] | None = None


FAMILIES: dict[str, tuple[str, str]] = {
    "tinyfleet_agents": ("gauge", "Agents that the coordinator knows, by what they do."),
    "tinyfleet_runs": ("gauge", "Runs that go on, by status."),
    "tinyfleet_runs_ended_total": ("counter", "Runs that have ended, by status."),
    "tinyfleet_round_age_seconds": ("gauge", "Age of the round that is open the longest; 0: none."),
    "tinyfleet_rounds_total": ("counter", "Rounds that were applied to a model."),
    "tinyfleet_open_runs": ("gauge", "Runs that the aggregator has open."),
    "tinyfleet_updates_total": ("counter", "Updates that came, by what became of them."),
    "tinyfleet_updates_diverged_total": ("counter", "Accepted updates that count as zero."),
    "tinyfleet_update_bytes_total": ("counter", "Bytes of accepted updates, and of their starts."),
    "tinyfleet_samples_stored_total": ("counter", "Samples that the metrics service has stored."),
    "tinyfleet_samples_waiting": ("gauge", "Samples that wait to be stored."),
    "tinyfleet_watchers": ("gauge", "Streams that follow new samples."),
    "tinyfleet_stream_age_seconds": ("gauge", "How long the member's stream is open, or gone."),
    "tinyfleet_training_age_seconds": ("gauge", "How long the member has trained its round."),
    "tinyfleet_in_hand": ("gauge", "Assignments without a receipt."),
    "tinyfleet_trained_rounds_total": ("counter", "Rounds that the member has trained."),
    "tinyfleet_training_seconds_total": ("counter", "Time that its training took."),
    "tinyfleet_training_diverged_total": ("counter", "Trained rounds that left the numbers."),
    "tinyfleet_reconnects_total": ("counter", "Streams that were opened after the first."),
    "tinyfleet_board_link_errors_total": ("counter", "Frames that were spoiled or sent again."),
    "tinyfleet_board_failures_total": ("counter", "Times that the board failed at work."),
    "tinyfleet_predictions_total": (
        "counter",
        "Questions to the live model, by outcome.",
    ),
    "tinyfleet_predicted_samples_total": ("counter", "Samples that it was asked about."),
    "tinyfleet_models_total": ("counter", "Models that the agent has adapted and taken over."),
    "tinyfleet_model_age_seconds": ("gauge", "Since the newest of them was trained."),
}
LEVEL = (
    "tinyfleet_level",
    "gauge",
    "How well a subject is: 0 well, 1 look at it, 2 broken, 3 unknown.",
)
MEASURES = (
    Measure("fleet", "attached_agents", "tinyfleet_agents", ("state", "attached")),
    Measure("fleet", "busy_agents", "tinyfleet_agents", ("state", "busy")),
    Measure("fleet", "known_agents", "tinyfleet_agents", ("state", "known")),
    Measure("runs", "pending_runs", "tinyfleet_runs", ("status", "pending")),
    Measure("runs", "running_runs", "tinyfleet_runs", ("status", "running")),
    Measure("runs", "finished_runs", "tinyfleet_runs_ended_total", ("status", "finished")),
    Measure("runs", "stopped_runs", "tinyfleet_runs_ended_total", ("status", "stopped")),
    Measure("runs", "failed_runs", "tinyfleet_runs_ended_total", ("status", "failed")),
    Measure("runs", "round_age_s", "tinyfleet_round_age_seconds"),
    Measure("runs", "rounds", "tinyfleet_rounds_total"),
    Measure("runs", "open_runs", "tinyfleet_open_runs"),
    Measure("runs", "accepted", "tinyfleet_updates_total", ("outcome", "accepted")),
    Measure("runs", "refused", "tinyfleet_updates_total", ("outcome", "refused")),
    Measure("runs", "late", "tinyfleet_updates_total", ("outcome", "late")),
    Measure("runs", "not_stored", "tinyfleet_updates_total", ("outcome", "not_stored")),
    Measure("runs", "diverged", "tinyfleet_updates_diverged_total"),
    Measure("runs", "bytes_up", "tinyfleet_update_bytes_total", ("direction", "up")),
    Measure("runs", "bytes_down", "tinyfleet_update_bytes_total", ("direction", "down")),
    Measure("storage", "stored_samples", "tinyfleet_samples_stored_total"),
    Measure("storage", "waiting_samples", "tinyfleet_samples_waiting"),
    Measure("storage", "watchers", "tinyfleet_watchers"),
    Measure("member", "stream_age_s", "tinyfleet_stream_age_seconds"),
    Measure("member", "round_age_s", "tinyfleet_training_age_seconds"),
    Measure("member", "in_hand", "tinyfleet_in_hand"),
    Measure("member", "trained_rounds", "tinyfleet_trained_rounds_total"),
    Measure("member", "training_s", "tinyfleet_training_seconds_total"),
    Measure("member", "diverged", "tinyfleet_training_diverged_total"),
    Measure("member", "reconnects", "tinyfleet_reconnects_total"),
    Measure("board", "link_errors", "tinyfleet_board_link_errors_total"),
    Measure("board", "failures", "tinyfleet_board_failures_total"),
    Measure("predictions", "answered", "tinyfleet_predictions_total", ("outcome", "answered")),
    Measure("predictions", "refused", "tinyfleet_predictions_total", ("outcome", "refused")),
    Measure("predictions", "samples", "tinyfleet_predicted_samples_total"),
    Measure("predictions", "models", "tinyfleet_models_total"),
    Measure("predictions", "model_age_s", "tinyfleet_model_age_seconds"),
)

"""Which commands there are. A command's module is imported only when it is called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """Where a command is, what it does in one line, and the extra it needs beyond `cli`."""

    target: str
    help: str
    extra: str = "cli"


COMMANDS: dict[str, Entry] = {
    "simulate": Entry("tinyfleet.cli.simulate:command", "Train a federation in this process."),
    "up": Entry(
        "tinyfleet.cli.up:command",
        "Start services and agents on this machine and train.",
        "services",
    ),
    "run": Entry("tinyfleet.cli.run:command", "Start, list, show, watch and stop runs."),
    "agent": Entry("tinyfleet.cli.agent:command", "Make this machine an agent.", "tls"),
    "agents": Entry("tinyfleet.cli.agents:command", "List the agents of a fleet."),
    "predict": Entry("tinyfleet.cli.predict:command", "Ask the live model of an agent."),
    "ca": Entry("tinyfleet.cli.ca:command", "Issue and revoke certificates.", "tls"),
    "health": Entry("tinyfleet.cli.health:command", "Ask a service how it is.", "services"),
    "metrics": Entry("tinyfleet.cli.metrics:command", "Query, watch and summarize metrics."),
    "device": Entry("mcu_bridge.cli.device:command", "List, flash, watch and test boards."),
    "compare": Entry("tinyfleet.cli.compare:command", "Compare strategies from several seeds."),
    "evaluate": Entry("tinyfleet.cli.evaluate:command", "Adapt a checkpoint to unseen problems."),
    "checkpoint": Entry("tinyfleet.cli.checkpoint:command", "Fetch a model from a fleet."),
    "export": Entry(
        "tinyfleet.cli.export:command", "Write a checkpoint's model as .tflite, C or arrays."
    ),
    "infer": Entry("tinyfleet.cli.infer:command", "Run a .tflite on samples."),
    "tflite": Entry("tinyfleet.cli.tflite:command", "Look into a .tflite, and cut it."),
    "doctor": Entry("tinyfleet.cli.doctor:command", "Look for what is wrong, and say what to do."),
    "backup": Entry("tinyfleet.cli.backup:backup", "Back up a site while it works."),
    "restore": Entry("tinyfleet.cli.backup:restore_command", "Restore a site from a backup."),
    "models": Entry("tinyfleet.cli.models:command", "List the built-in models and their cost."),
    "memory": Entry("tinyfleet.cli.memory:command", "Show what memory a model needs."),
}

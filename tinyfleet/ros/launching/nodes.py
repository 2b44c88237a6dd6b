"""The nodes of a fleet, made from the arguments of a launch file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch import LaunchContext
from launch_ros.parameter_descriptions import ParameterValue

from tinyfleet.errors import InvalidInput, one_line
from tinyfleet.ros.launching import arguments as arg
from tinyfleet.ros.launching.arguments import Given
from tinyfleet.ros.launching.processes import Command, NodeProcess, guarded

AGENT = "edge_agents.ros"
_NODE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")


@dataclass(frozen=True)
class Launch:
    """One launch file being carried out.

    given: its arguments. config: folder of its parameter files. outer_namespace: what the launch
    files around it have pushed.
    """

    given: Given
    config: Path
    outer_namespace: str = ""

    @classmethod
    def of(cls, context: LaunchContext, launch_file: str) -> Launch:
        """The launch of the file `launch_file`; raises InvalidInput for what cannot be."""
        given = Given(context.launch_configurations)
        outer = context.launch_configurations.get("ros_namespace", "")
        return cls(given, Path(launch_file).parent / "config", outer)

    @property
    def autostart(self) -> bool:
        return self.given.flag(arg.AUTOSTART)

    def services(self) -> list[NodeProcess]:
        """The three services; each ends after those that report to it."""
        aggregator, metrics = self.given.text(arg.AGGREGATOR), self.given.text(arg.METRICS)
        known = {
            "coordinator": {
                "listen": self.given.text(arg.COORDINATOR),
                "aggregator": aggregator,
                "metrics": metrics,
            },
            "aggregator": {"listen": aggregator, "metrics": metrics},
            "metrics": {"listen": metrics},
        }
        state = {"state": self.given.text(arg.STATE)}
        nodes = [
            self._node(name, f"services.{name}.node", "services.yaml", settings | state)
            for name, settings in known.items()
        ]
        for number, node in enumerate(nodes):
            node.users = nodes[:number]
        return nodes

    def agent(self, name: str, **settings: Any) -> NodeProcess:
        """An agent, called `name` as a node and, with its namespace in front, in the fleet."""
        known = {
            "name": self.member(name),
            "coordinator": self.given.text(arg.COORDINATOR),
            "data": self.given.text(arg.DATA),
        }
        return self._node(name, AGENT, "agent.yaml", known | settings)

    def board(self, name: str, url: str) -> NodeProcess:
        """An agent that leaves all training to the board at `url`, called `name` in the fleet."""
        device = f"{url}{'&' if '?' in url else '?'}name={self.member(name)}"
        return self.agent(name, device=[device], no_host_training=True)

    def run(self, members: int) -> Command | None:
        """The command that starts a run once so many members attend, and follows it to its end.

        None for a fleet without a run.
        """
        rounds = self.given.count(arg.ROUNDS, arg.MAX_ROUNDS)
        if not rounds:
            return None
        told = {
            "coordinator": self.given.text(arg.COORDINATOR),
            "rounds": str(rounds),
            "wait-for": str(members),
            **{a.name: self.given.text(a) for a in (arg.TASK, arg.STRATEGY, arg.MODEL, arg.SEED)},
            "data": self.given.text(arg.DATA),
        }
        options = [word for name, text in told.items() if text for word in (f"--{name}", text)]
        more = _words(arg.RUN_OPTIONS.name, self.given.text(arg.RUN_OPTIONS))
        program = [self.given.text(arg.PYTHON), "-m", "tinyfleet.cli", "run", "start", "--watch"]
        return Command(cmd=[*program, *options, *more], name="run", **guarded())

    def member(self, name: str) -> str:
        """What the fleet calls the node `name`: with its namespace, dots for slashes."""
        inner = self.given.text(arg.NAMESPACE)
        parts = [inner] if inner.startswith("/") else [self.outer_namespace, inner]
        return ".".join([*(word for part in parts for word in part.split("/") if word), name])

    def _node(
        self, name: str, module: str, parameter_file: str, settings: Mapping[str, Any]
    ) -> NodeProcess:
        if not _NODE_NAME.fullmatch(name):
            raise InvalidInput(
                f"a node's name is up to 63 letters, digits and '_', no digit first: "
                f"got '{one_line(name)}'"
            )
        files = [self.config / parameter_file, self.given.file(arg.PARAMS_FILE)]
        told = {**settings, "log_level": self.given.text(arg.LOG_LEVEL)}
        return NodeProcess(
            python=self.given.text(arg.PYTHON),
            module=module,
            name=name,
            namespace=self.given.text(arg.NAMESPACE),
            respawn=self.given.flag(arg.USE_RESPAWN),
            parameters=[
                *(str(file) for file in files if file is not None),
                {key: _parameter(value) for key, value in told.items() if value != ""},
            ],
        )


def _parameter(value: Any) -> Any:
    """Of this type and no other: launch would read the text 1e3 as a number."""
    if isinstance(value, str):
        return ParameterValue(value, value_type=str)
    return value


def _words(where: str, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise InvalidInput(f"{where}: {error}: '{one_line(text)}'") from None

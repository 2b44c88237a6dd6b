"""The arguments of the launch files: one table, so that a name means the same in each of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from launch.actions import DeclareLaunchArgument

from tinyfleet.errors import InvalidInput, one_line
from tinyfleet.logs import LEVELS

MAX_AGENTS = 256  # MUST match tinyfleet/cli/up.py
MAX_BOARDS = 16  # MUST match tinyfleet/cli/up.py
MAX_ROUNDS = 10_000_000
_YES_OR_NO = ("true", "false", "True", "False")


@dataclass(frozen=True)
class Argument:
    """One launch argument: its default as text, the texts it takes (all, when there are none)."""

    name: str
    description: str
    default: str = ""
    choices: tuple[str, ...] = ()

    def declared(self) -> DeclareLaunchArgument:
        return DeclareLaunchArgument(
            self.name,
            default_value=self.default,
            description=self.description,
            choices=list(self.choices) or None,
        )

    def by_default(self, default: str) -> Argument:
        """The same argument with another default."""
        return replace(self, default=default)


NAMESPACE = Argument("namespace", "Namespace of the nodes, such as /site; empty: none.")
PARAMS_FILE = Argument(
    "params_file",
    "Parameter file to read after those of the package (launch/config); the other arguments that "
    "set a parameter win over it. Empty: none.",
)
AUTOSTART = Argument(
    "autostart",
    "Whether the nodes are configured and activated at once; else somebody else does it, for "
    "example `ros2 lifecycle set`.",
    "true",
    _YES_OR_NO,
)
USE_RESPAWN = Argument(
    "use_respawn",
    "Whether a node that dies is started again. Else it ends the launch, unless it ended well.",
    "true",
    _YES_OR_NO,
)
LOG_LEVEL = Argument(
    "log_level",
    "Lowest level that the nodes log; empty: as the parameter files say.",
    "",
    ("", *LEVELS),
)
PYTHON = Argument(
    "python",
    "Python interpreter that runs the nodes: one that has rclpy and TinyFleet.",
    sys.executable,
)
COMMON = (NAMESPACE, PARAMS_FILE, AUTOSTART, USE_RESPAWN, LOG_LEVEL, PYTHON)

COORDINATOR = Argument(
    "coordinator", "Address of the coordinator, host:port on loopback.", "127.0.0.1:7310"
)
AGGREGATOR = Argument(
    "aggregator", "Address of the aggregator, host:port on loopback.", "127.0.0.1:7311"
)
METRICS = Argument(
    "metrics", "Address of the metrics service, host:port on loopback.", "127.0.0.1:7312"
)
STATE = Argument(
    "state",
    "Folder of the services' databases, made if missing; empty: as the parameter files say.",
)
SERVICES = (COORDINATOR, AGGREGATOR, METRICS, STATE)

NAME = Argument(
    "name",
    "Name of the node, letters, digits and '_'. In the fleet it has its namespace in front: "
    "/robot1 and agent make robot1.agent.",
    "agent",
)
DATA = Argument("data", "File or folder with the task's data; empty: as the parameter files say.")
OWN_DATA = Argument(
    "own_data",
    "Train on this .npz (arrays inputs, targets) instead of the task's samples; empty: as the "
    "parameter files say.",
)
DEVICE = Argument(
    "device", "URL of an attached board that trains as an agent of its own; empty: none."
)
NO_HOST_TRAINING = Argument(
    "no_host_training", "Whether all training is left to the board.", "false", _YES_OR_NO
)
AGENT = (NAME, COORDINATOR, DATA, OWN_DATA, DEVICE, NO_HOST_TRAINING)

AGENTS = Argument("agents", f"Agents to start, 0 to {MAX_AGENTS}.", "4")
MCUS = Argument("mcus", f"Boards to add to them, each with a node, 0 to {MAX_BOARDS}.", "0")
BOARD = Argument(
    "board",
    "What each board is: emulated://mps2-an386 or emulated://host.",
    "emulated://mps2-an386",
)
ROUNDS = Argument(
    "rounds",
    "Rounds to train: a run starts once everybody is active and attached, and the launch ends "
    "when the run does. 0: no run; the fleet stays up.",
    "0",
)
TASK = Argument("task", "Problems to learn, as in `tinyfleet run start --task`.", "sine")
STRATEGY = Argument(
    "strategy", "Algorithm, as in `tinyfleet run start --strategy`.", "tiny_reptile"
)
MODEL = Argument("model", "Built-in model, or a .toml file with one; empty: the task's.")
SEED = Argument("seed", "Seed of every random draw of the run, a whole number.", "1")
RUN_OPTIONS = Argument(
    "run_options",
    "More options of `tinyfleet run start`, such as '--set inner_rate=0.02'; quoted as in a shell.",
)
RUN = (ROUNDS, TASK, STRATEGY, MODEL, SEED, DATA, RUN_OPTIONS)
FLEET = (AGENTS, MCUS, BOARD)


def declared(arguments: Iterable[Argument]) -> list[DeclareLaunchArgument]:
    """The actions that declare `arguments`."""
    return [argument.declared() for argument in arguments]


class Given:
    """What was given for the arguments, each read as its kind; raises InvalidInput if it is not."""

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def text(self, argument: Argument) -> str:
        return self._texts[argument.name]

    def flag(self, argument: Argument) -> bool:
        return self.text(argument).lower() == "true"

    def count(self, argument: Argument, most: int) -> int:
        """A whole number from 0 to `most`."""
        text = self.text(argument)
        if not (text.isascii() and text.isdigit() and int(text[:12]) <= most):
            raise InvalidInput(
                f"{argument.name} must be a whole number from 0 to {most}, got '{one_line(text)}'"
            )
        return int(text)

    def file(self, argument: Argument) -> Path | None:
        """A file that is there, None when none was given."""
        text = self.text(argument)
        if not text:
            return None
        if not (path := Path(text).expanduser()).is_file():
            raise InvalidInput(f"{argument.name}: there is no file {one_line(text)}")
        return path

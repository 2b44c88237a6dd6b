"""What the launch files say: described arguments, nodes that exist, parameters that they have."""

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agents.settings import AgentSettings
from services.aggregator.settings import AggregatorSettings
from services.coordinator.settings import CoordinatorSettings
from services.metrics.settings import MetricsSettings
from tinyfleet.cli import up
from tinyfleet.cli.run import start
from tinyfleet.config import Sources, load_settings
from tinyfleet.errors import InvalidInput

ROOT = Path(__file__).resolve().parents[3]
COMMON = {"namespace", "params_file", "autostart", "use_respawn", "log_level", "python"}
SERVICES = {"coordinator", "aggregator", "metrics", "state"}
ARGUMENTS = {
    "services.launch.py": COMMON | SERVICES,
    "agent.launch.py": COMMON
    | {"name", "coordinator", "data", "own_data", "device", "no_host_training"},
    "fleet.launch.py": COMMON
    | SERVICES
    | {"agents", "mcus", "board", "task", "strategy", "model", "rounds", "seed", "data"}
    | {"run_options"},
}
SETTINGS = {
    "coordinator": CoordinatorSettings,
    "aggregator": AggregatorSettings,
    "metrics": MetricsSettings,
}
Described = Callable[[str], Any]


def arguments(description: Any) -> list[Any]:
    return [e for e in description.args[0] if type(e).__name__ == "DeclareLaunchArgument"]


def nodes(description: Any, **given: str) -> list[Any]:
    """The entities that the launch file makes of its arguments: `given`, else the defaults."""
    texts = {a.args[0]: a.options["default_value"] for a in arguments(description)}
    assert set(given) <= set(texts) | {"ros_namespace"}
    context = SimpleNamespace(launch_configurations=texts | given)
    (function,) = (e for e in description.args[0] if type(e).__name__ == "OpaqueFunction")
    return function.options["function"](context)


def hosted(entities: list[Any]) -> dict[str, Any]:
    return {e.label: e for e in entities if type(e).__name__ == "NodeProcess"}


def parameters(node: Any) -> dict[str, Any]:
    """What the launch itself sets of a node's parameters, as plain values."""
    told = node.options["parameters"][-1]
    return {key: getattr(value, "args", (value,))[0] for key, value in told.items()}


def run_of(entities: list[Any]) -> Any:
    (bring_up,) = (e for e in entities if type(e).__name__ == "BringUp")
    return bring_up.then


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_argument_is_described_and_has_a_default_among_its_choices(
    described: Described, name: str
) -> None:
    declared = arguments(described(name))
    assert {argument.args[0] for argument in declared} == ARGUMENTS[name]
    assert len(declared) == len(ARGUMENTS[name])
    for argument in declared:
        assert argument.options["description"].endswith(".")
        default, choices = argument.options["default_value"], argument.options["choices"]
        assert isinstance(default, str)
        assert choices is None or default in choices


def test_every_launch_file_is_tested_here() -> None:
    assert {path.name for path in (ROOT / "launch").glob("*.launch.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_node_is_a_module_that_this_interpreter_runs(described: Described, name: str) -> None:
    made = hosted(nodes(described(name))).values()
    assert made
    for node in made:
        assert node.options["executable"] == sys.executable
        assert node.options["arguments"] == ["-m", node.module]
        assert importlib.util.find_spec(node.module) is not None


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_parameter_that_a_launch_sets_is_a_setting(described: Described, name: str) -> None:
    given = {"log_level": "debug", "namespace": "/site"}
    for label, node in hosted(nodes(described(name), **given)).items():
        known = {entry.name for entry in fields(SETTINGS.get(label, AgentSettings))}
        told = parameters(node)
        assert set(told) <= known
        assert told["log_level"] == "debug"
        assert node.options["namespace"] == "/site"
        for file in node.options["parameters"][:-1]:
            assert Path(file).is_file()


def test_services_find_each_other(described: Described) -> None:
    given = {"aggregator": "127.0.0.1:5001", "metrics": "127.0.0.1:5002", "state": "here"}
    made = hosted(nodes(described("services.launch.py"), **given))
    assert parameters(made["coordinator"]) == {
        "listen": "127.0.0.1:7310",
        "aggregator": "127.0.0.1:5001",
        "metrics": "127.0.0.1:5002",
        "state": "here",
    }
    assert parameters(made["aggregator"])["listen"] == "127.0.0.1:5001"
    assert parameters(made["metrics"]) == {"listen": "127.0.0.1:5002", "state": "here"}


def test_fleet_has_the_agents_and_boards_asked_for_between_start_and_end_of_its_services(
    described: Described,
) -> None:
    entities = nodes(described("fleet.launch.py"), agents="3", mcus="2", rounds="7")
    made = hosted(entities)
    members = ["agent_1", "agent_2", "agent_3", "board_1", "board_2"]
    assert list(made) == ["coordinator", "aggregator", "metrics", *members]
    assert parameters(made["board_2"])["device"] == ["emulated://mps2-an386?name=board_2"]
    assert parameters(made["board_2"])["no_host_training"] is True
    run, services = run_of(entities), ("coordinator", "aggregator", "metrics")
    for number, service in enumerate(services):
        before = [made[name] for name in (*services[:number], *members)]
        assert made[service].users == [*before, run]
    for member in members:
        assert made[member].needs == [made[service] for service in services]


def test_names_in_the_fleet_have_the_namespace_in_front(described: Described) -> None:
    outer = {"ros_namespace": "/site", "namespace": "robot1"}
    (agent,) = hosted(nodes(described("agent.launch.py"), **outer)).values()
    assert parameters(agent)["name"] == "site.robot1.agent"
    absolute = {"ros_namespace": "/site", "namespace": "/robot1"}
    (agent,) = hosted(nodes(described("agent.launch.py"), **absolute)).values()
    assert parameters(agent)["name"] == "robot1.agent"


def test_run_is_a_command_that_tinyfleet_understands(described: Described) -> None:
    given = {"rounds": "7", "task": "omniglot", "model": "cnn_s", "data": "images"}
    more = {"run_options": "--set inner_rate=0.02 --ways 3"}
    run = run_of(nodes(described("fleet.launch.py"), **given, **more))
    python, dash_m, module, group, name, *words = run.options["cmd"]
    assert (python, dash_m, module) == (sys.executable, "-m", "tinyfleet.cli")
    assert (group, name) == ("run", "start")
    assert importlib.util.find_spec("tinyfleet.cli.__main__") is not None
    parsed = start.make_context("start", words, parent=None).params
    assert (parsed["watch"], parsed["wait_for"]) == (True, 4)


def test_fleet_without_rounds_starts_no_run(described: Described) -> None:
    assert run_of(nodes(described("fleet.launch.py"))) is None


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"agents": "many"}, "agents must be a whole number from 0 to 256, got 'many'"),
        ({"agents": "257"}, "agents must be a whole number from 0 to 256, got '257'"),
        ({"mcus": "-1"}, "mcus must be a whole number from 0 to 16, got '-1'"),
        ({"rounds": "1" * 5000}, "rounds must be a whole number"),
        ({"rounds": "5", "agents": "0"}, "a run needs somebody who trains"),
        ({"params_file": "nowhere.yaml"}, "params_file: there is no file nowhere.yaml"),
        ({"rounds": "5", "run_options": "'"}, "run_options: No closing quotation"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    described: Described, given: dict[str, str], complaint: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        nodes(described("fleet.launch.py"), **given)
    assert str(refused.value).startswith(complaint)
    assert "\n" not in str(refused.value)


def test_agent_of_a_bad_name_is_refused(described: Described) -> None:
    with pytest.raises(InvalidInput, match="letters, digits and '_'"):
        nodes(described("agent.launch.py"), name="pi-1")


def test_bounds_are_those_of_the_command(launching: SimpleNamespace) -> None:
    assert launching.arguments.MAX_AGENTS == up.MAX_AGENTS
    assert launching.arguments.MAX_BOARDS == up.MAX_BOARDS


def read_parameters(path: Path) -> dict[str, dict[str, str]]:
    """The texts of a parameter file by node: no more of YAML than the package's files use."""
    found: dict[str, dict[str, str]] = {}
    for line in path.read_text().splitlines():
        text = line.partition("#")[0].rstrip()
        if not text:
            continue
        depth, (key, _, value) = len(text) - len(text.lstrip()), text.strip().partition(": ")
        if depth == 0:
            node = found.setdefault(text.removesuffix(":"), {})
        elif depth == 2:
            assert text.strip() == "ros__parameters:"
        else:
            assert (depth, bool(value)) == (4, True), line
            node[key] = value
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "launch/config").glob("*.yaml")), ids=str)
def test_parameter_files_name_settings_with_values_that_will_do(file: Path) -> None:
    for node, texts in read_parameters(file).items():
        settings = AgentSettings if node == "/**" else SETTINGS[node.removeprefix("/**/")]
        kinds = {entry.name: str(entry.type) for entry in fields(settings)}
        assert set(texts) <= set(kinds)
        flags = [
            word for name, text in texts.items() for word in (f"--{name.replace('_', '-')}", text)
        ]
        load_settings(settings, "tested", "", Sources(flags, {}))
        # A parameter has one type: 15 would be refused where 15.0 is meant.
        assert {name for name, text in texts.items() if "." in text} == {
            name for name in texts if kinds[name] == "float"
        }

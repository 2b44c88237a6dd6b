"""Who may import whom: the packages by import-linter, outside libraries by folder.

The contracts between packages are in pyproject.toml. Here stands which folder may know a library
at all, wherever in a file the import is, so that a core stays free of sockets, threads and clocks.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePath

import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("tinyfleet", "services", "edge_agents", "mcu_bridge")

GENERATED = ["tinyfleet/v1/*"]
MAINS = ["services/*/main.py", "services/*/servicer.py", "services/hosting/*"]
STORES = [
    "services/*/main.py",
    "services/hosting/*",
    "services/*/adapters/*",
    "services/*/migrations/*",
]
COMMAND = ["tinyfleet/cli/*"]
COMMANDS = [*COMMAND, "mcu_bridge/cli/*"]
# What dials a service, and what knows when a certificate ends.
CLIENT = [
    *("tinyfleet/client.py", "tinyfleet/predictions.py", "tinyfleet/telemetry_grpc.py"),
    "tinyfleet/security/*",
]
SIGNING = ["tinyfleet/security/*", "services/hosting/*"]
NODES = [
    "tinyfleet/ros/*",
    "services/hosting/ros.py",
    "edge_agents/ros.py",
    "edge_agents/ros_*.py",
]
MESSAGES = ("diagnostic", "lifecycle", "sensor", "std")
ROS = ("rclpy", "rcl_interfaces", "std_srvs", *(f"{kind}_msgs" for kind in MESSAGES))
OPERATIONS = ["tinyfleet/exposition/*", "tinyfleet/process.py"]  # what answers Prometheus
LOGS = ["tinyfleet/logs.py"]  # a log line has a time
# A damaged file ends a child, not the process; and there is one standard error for all threads.
RUNTIME = ["tinyfleet/litert/probe.py", "tinyfleet/litert/runtime.py"]
COMPILER = ["tinyfleet/export/c_check.py"]  # an exported header is compiled before it counts

# Library -> the only places that may import it.
MAY_IMPORT = {
    "grpc": [*GENERATED, *MAINS, *COMMAND, *CLIENT, "services/*/adapters/*", "edge_agents/*"],
    "grpc_health": [*MAINS, *COMMAND],
    "grpc_reflection": [*MAINS],
    "sqlalchemy": STORES,
    "alembic": STORES,
    "cryptography": SIGNING,
    "click": COMMANDS,
    "rich": COMMANDS,
    "matplotlib": ["tinyfleet/reports/*"],
    **dict.fromkeys(ROS, NODES),
    "serial": ["mcu_bridge/lines/terminal.py", "mcu_bridge/cli/presence.py"],  # the extra [mcu]
}
# The core library has no sockets, threads or clock; its command, client and nodes have them all.
NOT_IN_CORE = {"asyncio", "concurrent", "datetime", "multiprocessing", "selectors", "socket"} | {
    "socketserver", "ssl", "subprocess", "threading", "time"
}  # fmt: skip


def python_files() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@cache
def imported(path: Path) -> tuple[tuple[str, int], ...]:
    """The top-level name and line of every import in a file, also those inside functions."""
    return tuple(_imported(path))


def _imported(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield (node.module or "").partition(".")[0], node.lineno


def is_under(path: PurePath, patterns: list[str]) -> bool:
    """Whether the path, or a folder it is in, matches a pattern."""
    return any(place.match(pattern) for place in (path, *path.parents) for pattern in patterns)


def offenders(library: str, allowed: list[str], packages: tuple[str, ...]) -> list[str]:
    found = []
    for path in python_files():
        name = path.relative_to(ROOT)
        if name.parts[0] in packages and not is_under(name, allowed):
            found += [f"{name}:{line}" for top, line in imported(path) if top == library]
    return found


def test_packages_import_only_what_the_contracts_allow(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The linter's own logging would silence the loggers that the tests after this one listen to.
    monkeypatch.setattr("logging.config.dictConfig", lambda config: None)
    status = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


@pytest.mark.parametrize("library", MAY_IMPORT)
def test_library_is_imported_only_where_it_belongs(library: str) -> None:
    assert offenders(library, MAY_IMPORT[library], PACKAGES) == []


def test_only_the_bridge_s_commands_know_of_commands() -> None:
    """Else click would come into an agent behind the back of the contract on the bare install."""
    found = []
    for path in python_files():
        name = path.relative_to(ROOT)
        if name.parts[0] == "mcu_bridge" and not is_under(name, ["mcu_bridge/cli/*"]):
            text = path.read_text(encoding="utf-8")
            found += [str(name) for part in ("mcu_bridge.cli", "tinyfleet.cli") if part in text]
    assert found == []


@pytest.mark.parametrize("module", sorted(NOT_IN_CORE))
def test_core_has_no_sockets_threads_or_clock(module: str) -> None:
    allowed = [*COMMAND, *CLIENT, *OPERATIONS, *LOGS, *RUNTIME, *COMPILER, *GENERATED, *NODES]
    assert offenders(module, allowed, ("tinyfleet",)) == []


def test_the_rules_see_an_import_inside_a_function(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text("def late() -> None:\n    from time import monotonic\n", encoding="utf-8")
    assert list(imported(sample)) == [("time", 2)]

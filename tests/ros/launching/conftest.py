"""The real `launch`, in a process of its own, and a look at what it leaves behind.

launch and launch_ros are in no package index. Where no ROS 2 installation has them,
TINYFLEET_LAUNCH_SOURCES names a folder with checkouts of the repositories launch, launch_ros and
ros2cli; without either, the tests that need them are skipped. tests/unit/launch needs neither.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = os.environ.get("TINYFLEET_LAUNCH_SOURCES", "")
FOLDERS = (
    *("launch/launch", "launch/launch_xml", "launch/launch_yaml"),
    *("launch_ros/launch_ros", "launch_ros/ros2launch", "ros2cli/ros2cli", "ros2cli/ros2pkg"),
)
NO_LAUNCH = (
    "launch_ros is not here: source a ROS 2 installation, or set TINYFLEET_LAUNCH_SOURCES "
    "(docs/guides/launch.md)"
)
PATIENCE_S = 90.0
MARK = "TINYFLEET_LAUNCH_TEST"
# What `ros2 launch FILE ...` and `ros2 launch PACKAGE FILE ...` do with their arguments.
PROGRAM = """
import sys
from ros2launch.api import get_share_file_path_from_package as find, launch_a_launch_file as launch
file, *given = sys.argv[1:]
path = file if "/" in file else find(package_name="tinyfleet", file_name=file)
sys.exit(launch(launch_file_path=path, launch_file_arguments=given))
"""
# launch_ros imports this package for composable nodes, of which there are none here.
COMPOSITION = "class LoadNode:\n    Request = Response = object\n"


@pytest.fixture(scope="session")
def launch_path(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders to put on PYTHONPATH so that launch can be imported; skips where there is none."""
    if importlib.util.find_spec("launch_ros") is not None:
        return []
    if not SOURCES:
        pytest.skip(NO_LAUNCH)
    missing = [name for name in FOLDERS if not (Path(SOURCES) / name).is_dir()]
    assert not missing, f"TINYFLEET_LAUNCH_SOURCES lacks {', '.join(missing)}"
    stub = tmp_path_factory.mktemp("stub") / "composition_interfaces"
    stub.mkdir()
    (stub / "__init__.py").touch()
    (stub / "srv.py").write_text(COMPOSITION)
    return [*(str(Path(SOURCES) / name) for name in FOLDERS), str(stub.parent)]


class Launch:
    """One `ros2 launch`, and all that it has started."""

    def __init__(self, path: list[str], folder: Path, file: str, arguments: dict[str, Any]) -> None:
        self.mark = uuid.uuid4().hex
        self.log = folder / "launch.log"
        self._prefix = arguments.pop("prefix_path", None)
        words = [f"{name}:={value}" for name, value in arguments.items()]
        with self.log.open("wb") as file_out:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, file, *words],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=file_out,
                stderr=subprocess.STDOUT,
                env=self._environment(path, folder),
                start_new_session=True,
            )

    def _environment(self, path: list[str], folder: Path) -> dict[str, str]:
        environment = {**os.environ, MARK: self.mark, "ROS_LOG_DIR": str(folder / "ros")}
        extra = list(path)
        if self._prefix is not None:
            environment["AMENT_PREFIX_PATH"] = f"{self._prefix}:{sys.prefix}"
            extra += map(str, self._prefix.glob("lib/python*/site-packages"))
        return environment | {"PYTHONPATH": os.pathsep.join(extra)}

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def until(self, pattern: str, count: int = 1, timeout_s: float = PATIENCE_S) -> list[str]:
        """What the pattern finds, once it has found it so often."""
        end = time.monotonic() + timeout_s
        while len(found := re.findall(pattern, self.printed())) < count:
            assert self.process.poll() is None, f"it has ended before {pattern}"
            assert time.monotonic() < end, f"timed out waiting for {pattern}"
            time.sleep(0.1)
        return found

    def pid_of(self, node: str) -> int:
        """Of the newest process of a node."""
        return int(
            re.findall(rf"\[{node}-\d+\]: process started with pid \[(\d+)\]", self.printed())[-1]
        )

    def interrupt(self) -> None:
        """As Ctrl-C does: to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait for the end; the exit code."""
        return self.process.wait(timeout_s)

    def left(self) -> dict[int, str]:
        """What still runs of all that was started, by the mark in its environment."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}\0".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # it has ended, or is somebody else's
        return {pid: command for pid, command in found.items() if command}

    def ended(self) -> list[str]:
        """The processes in the order in which they have ended."""
        return re.findall(r"\[(\w+)-\d+\]: process has finished cleanly", self.printed())


@pytest.fixture
def launch(
    launch_path: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., Launch]]:
    """launch("fleet.launch.py", agents=2) starts it; with prefix_path=, as an installed package.

    At the end of the test nothing of it may be left; what is, is killed.
    """
    started: list[Launch] = []

    def begin(file: str, **arguments: Any) -> Launch:
        path = file if "prefix_path" in arguments else str(ROOT / "launch" / file)
        started.append(Launch(launch_path, tmp_path, path, arguments))
        return started[-1]

    yield begin
    for one in started:
        has_ended = one.process.poll() is not None
        left = one.left()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        one.process.wait()
        request.node.add_report_section("call", "launch", one.printed())
        assert not has_ended or left == {}


@pytest.fixture
def site() -> dict[str, str]:
    """Arguments for a fleet apart from all others: its namespace, free addresses of its services.

    A domain of ROS may be shared with somebody else's tests, and nodes of the same name with it.
    """
    with socket.socket() as a, socket.socket() as b, socket.socket() as c:
        for one in (a, b, c):
            one.bind(("127.0.0.1", 0))
        ports = [one.getsockname()[1] for one in (a, b, c)]
    names = ("coordinator", "aggregator", "metrics")
    addresses = {name: f"127.0.0.1:{port}" for name, port in zip(names, ports, strict=True)}
    return addresses | {"namespace": f"/site_{uuid.uuid4().hex[:8]}"}


@pytest.fixture(scope="session")
def colcon_install(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The install space of the package, built by colcon from what git would commit."""
    colcon = ROOT / ".venv-colcon/bin/colcon"
    if not colcon.exists():
        pytest.skip("no .venv-colcon here: dev/setup ros")
    workspace = tmp_path_factory.mktemp("workspace")
    source = workspace / "src" / "tinyfleet"
    copy_checkout(source)
    build = [
        str(colcon),
        "build",
        "--executor",
        "sequential",
        "--event-handlers",
        "console_direct+",
    ]
    path = f"{colcon.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        build,
        cwd=workspace,
        env={name: value for name, value in os.environ.items() if not name.startswith("_ROS")}
        | {"PATH": path, "COLCON_LOG_PATH": str(workspace / "log")},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace / "install" / "tinyfleet"


def copy_checkout(target: Path) -> None:
    """Copy the tracked and the new files, not what was built."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes((ROOT / name).read_bytes())

"""package.xml says what pyproject.toml says, and asks ROS for what the code imports."""

import ast
import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import tinyfleet

ROOT = Path(__file__).resolve().parents[3]
MANIFEST = ET.parse(ROOT / "package.xml").getroot()  # noqa: S314 - our own
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ROS = re.compile(r"rclpy|launch|launch_ros|ament_index_python|\w+_msgs|std_srvs|rcl_interfaces")


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_manifest_and_project_agree() -> None:
    assert MANIFEST.get("format") == "3"
    assert MANIFEST.findtext("name") == PROJECT["name"]
    assert MANIFEST.findtext("version") == tinyfleet.__version__
    assert MANIFEST.findtext("description") == PROJECT["description"]
    assert MANIFEST.findtext("license") == PROJECT["license"]
    assert MANIFEST.findtext("export/build_type") == "ament_python"


def of_the_extra() -> set[str]:
    """What `pip install tinyfleet[ros]` brings of ROS, by the names that ROS has for it."""
    lines = PROJECT["optional-dependencies"]["ros"]
    names = [re.match(r"[A-Za-z0-9-]+", line).group() for line in lines]
    return {name[4:].replace("-", "_") for name in names if name.startswith("ros-")}


def test_manifest_names_what_is_imported_and_what_the_extra_brings_and_no_more() -> None:
    folders = ("tinyfleet", "services", "edge_agents", "launch")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    used = {name for path in sources for name in imported(path) if ROS.fullmatch(name)}
    assert {"launch", "launch_ros", "rclpy"} <= used
    named = {entry.text for entry in MANIFEST.findall("exec_depend")}
    command = {"ros2launch"}  # reads the launch files
    assert named == used | of_the_extra() | command

"""The locks hold every dependency of pyproject.toml, pinned and hashed, and no address."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {
    name: (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for name in ("dev", "ros", "colcon", "tensorflow", "agent", "services", "build")
}
# What .venv-ros and the images have; .venv has all but [ros].
EXTRAS = {
    "ros": {"ros", "services", "mcu", "test"},
    "agent": {"mcu", "tls"},
    "services": {"services", "cli", "tls"},
}
IMAGES = ("agent", "services")  # the project's wheel is made in a stage of its own, from build.lock
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def asked_for(lock: str) -> list[Requirement]:
    if lock in ("colcon", "tensorflow", "build"):
        lines = (ROOT / "requirements" / f"{lock}.in").read_text(encoding="utf-8").splitlines()
        return [Requirement(line) for line in lines if not line.startswith("#")]
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    wanted = EXTRAS.get(lock, set(extras) - {"ros"})
    build = [] if lock in IMAGES else PROJECT["build-system"]["requires"]
    lines = [*project["dependencies"], *build]
    lines += [line for extra in sorted(wanted) for line in extras[extra]]
    return [r for r in map(Requirement, lines) if r.name != project["name"]]


def entries(lock: str) -> list[str]:
    """The lock's requirements: lines that go on with a backslash are one."""
    joined = LOCKS[lock].replace("\\\n", " ")
    return [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]


def pinned(lock: str) -> dict[str, list[str]]:
    """Every version the lock holds of a name: more than one where Python versions need it."""
    pins: dict[str, list[str]] = {}
    for entry in entries(lock):
        name, version = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", entry).groups()
        pins.setdefault(canonicalize_name(name), []).append(version)
    return pins


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [(lock, requirement) for lock in LOCKS for requirement in asked_for(lock)],
    ids=str,
)
def test_lock_holds_a_version_that_pyproject_accepts(lock: str, requirement: Requirement) -> None:
    versions = pinned(lock).get(canonicalize_name(requirement.name))
    assert versions, "run `make lock`"
    refused = [version for version in versions if version not in requirement.specifier]
    assert not refused, "run `make lock`"


@pytest.mark.parametrize("lock", ["ros", "build", *IMAGES])
def test_all_locks_hold_the_same_versions(lock: str) -> None:
    dev = pinned("dev")
    assert {name: v for name, v in pinned(lock).items() if name in dev and dev[name] != v} == {}


def test_images_are_built_with_what_pyproject_builds_with() -> None:
    wanted = (ROOT / "requirements" / "build.in").read_text(encoding="utf-8").splitlines()
    assert [line for line in wanted if line[0] != "#"] == PROJECT["build-system"]["requires"]


def test_ros_is_in_its_own_lock_only() -> None:
    assert [name for name in pinned("dev") if name.startswith("ros-")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_hash(lock: str) -> None:
    assert [entry for entry in entries(lock) if "--hash=sha256:" not in entry] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_holds_no_address(lock: str) -> None:
    assert "://" not in LOCKS[lock]
    assert "--index" not in LOCKS[lock]
    assert "--find-links" not in LOCKS[lock]


def lowest(name: str) -> str:
    """The lowest version of a core dependency that pyproject.toml accepts."""
    requirement = next(r for r in asked_for("dev") if r.name == name)
    return next(s.version for s in requirement.specifier if s.operator == ">=")


def test_generated_code_runs_on_every_grpcio_and_protobuf_that_pyproject_accepts() -> None:
    """Generated code refuses to be imported by a library older than its generator."""
    folder = ROOT / "tinyfleet" / "v1"
    stubs = {
        re.search(r"GRPC_GENERATED_VERSION = '(.+)'", path.read_text()).group(1)
        for path in folder.glob("*_pb2_grpc.py")
    }
    messages = {
        re.search(r"Protobuf Python Version: (.+)", path.read_text()).group(1)
        for path in folder.glob("*_pb2.py")
    }
    assert stubs == {lowest("grpcio")}
    assert messages == {lowest("protobuf")}

"""Builds the C learner as one plain shared library beside its Python loader.

The library is loaded with ctypes, so it needs no Python headers and serves every Python version.
Without a compiler the build goes on: the learner then runs on NumPy, slower, with the same results.
The files that make it a ROS 2 package go to share/, where `ros2 launch` finds them under colcon and
in a virtual environment alike. All else about the project is in pyproject.toml.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from setuptools import Command, Distribution, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build import build
from setuptools.command.develop import develop

SOURCE_FOLDER = Path("mcu_bridge/firmware/learner")
LIBRARY = Path("tinyfleet/learner/_native.so")
# Contraction off and no fast-math: the host must give the same bits as the Cortex-M4.
ARITHMETIC = ["-std=c99", "-O3", "-ffp-contract=off", "-fno-math-errno"]
WARNINGS = ["-Wall", "-Wextra", "-Werror=conversion", "-Werror=double-promotion"]
COMPLETE = ["-Wl,-z,defs"] if sys.platform == "linux" else []  # a missing function fails here
FLAGS = [*ARITHMETIC, *WARNINGS, *COMPLETE, "-fPIC", "-shared"]
PROJECT = Path(__file__).resolve().parent / "pyproject.toml"
SHARED = "share/tinyfleet"


def ros_files() -> list[tuple[str, list[str]]]:
    """Return what a ROS 2 package has in its share folder: marker, manifest, launch files."""
    launch_files = sorted(str(path) for path in Path("launch").glob("*.launch.py"))
    parameter_files = sorted(str(path) for path in Path("launch/config").glob("*.yaml"))
    return [
        ("share/ament_index/resource_index/packages", ["resource/tinyfleet"]),
        (SHARED, ["package.xml", "LICENSE"]),
        (f"{SHARED}/launch", launch_files),
        (f"{SHARED}/launch/config", parameter_files),
    ]


def compiler() -> list[str] | None:
    """Return the C compiler as an argument list ($CC wins), or None when there is none."""
    wanted = shlex.split(os.environ.get("CC", ""))
    candidates = [wanted] if wanted else [["cc"], ["gcc"], ["clang"]]
    return next((c for c in candidates if shutil.which(c[0])), None)


def unavailable(reason: str) -> bool:
    """Say why there is no native learner; end the build where the caller insists on one."""
    if os.environ.get("TINYFLEET_REQUIRE_NATIVE"):
        raise SystemExit(f"tinyfleet: {reason}")
    print(f"tinyfleet: {reason}: the learner will run on NumPy")
    return False


class BuildNative(Command):
    """Compiles the learner into the build folder; for an editable install, into the source tree."""

    description = "build the C learner"
    user_options: ClassVar[list[tuple[str, str, str]]] = []
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build", ("build_lib", "build_lib"))

    def target(self) -> Path:
        return LIBRARY if self.editable_mode else Path(self.build_lib) / LIBRARY

    def get_source_files(self) -> list[str]:
        return sorted(str(p) for p in SOURCE_FOLDER.glob("*.c"))

    def get_outputs(self) -> list[str]:
        return [str(self.target())] if self.target().is_file() else []

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    def run(self) -> None:
        if not self.get_source_files() or not self.compile():
            self.target().unlink(missing_ok=True)  # never an old library beside new sources

    def compile(self) -> bool:
        """Compile and link in one step; return False, and say why in a line, when that fails."""
        cc = compiler()
        if cc is None:
            return unavailable("no C compiler found (install gcc)")
        self.target().parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed: a process that has the old library loaded keeps it.
        fresh = self.target().with_suffix(".new")
        includes = [f"-I{SOURCE_FOLDER}", f"-I{SOURCE_FOLDER / 'include'}"]
        command = [*cc, *FLAGS, *includes, *self.get_source_files(), "-o", str(fresh), "-lm"]
        if subprocess.run(command, check=False).returncode != 0:
            return unavailable("the C learner did not compile, see above")
        fresh.replace(self.target())
        return True


class Build(build):
    """The standard build, then the C learner."""

    sub_commands: ClassVar = [*build.sub_commands, ("build_native", None)]


class Develop(develop):
    """What `colcon build --symlink-install` runs; the C learner goes into the source tree."""

    def run(self) -> None:
        self.reinitialize_command("build_native", editable_mode=True)
        self.run_command("build_native")
        super().run()


class Wheel(bdist_wheel):
    """A wheel named for its platform when it holds the library: py3-none-linux_x86_64."""

    def get_tag(self) -> tuple[str, str, str]:
        if not self.get_finalized_command("build_native").get_outputs():
            return super().get_tag()
        self.root_is_pure = False
        _, _, platform = super().get_tag()
        return ("py3", "none", platform)


class Package(Distribution):
    """What pyproject.toml says, as plain values: colcon reads them back from their repr."""

    def parse_config_files(self, filenames: object = None, **options: object) -> None:
        # `colcon build --symlink-install` builds in a folder that lacks the file.
        if filenames is None:
            filenames = [*self.find_config_files(), str(PROJECT)]
        super().parse_config_files(filenames, **options)
        self.python_requires = self.metadata.python_requires = str(self.python_requires)


setup(
    distclass=Package,
    cmdclass={
        "bdist_wheel": Wheel,
        "build": Build,
        "build_native": BuildNative,
        "develop": Develop,
    },
    data_files=ros_files(),
)

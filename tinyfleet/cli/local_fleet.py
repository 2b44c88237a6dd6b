"""A whole fleet on this machine: three services and some agents, each its own process on loopback.

Boards are attached to one more agent, which trains nothing itself: it takes part for each of them.

Processes that die are started again on the same address, as an operator's init system would;
one that cannot start ends the fleet with the reason. When the program that owns the fleet dies,
the kernel ends the processes too.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput, TinyFleetError, Unreachable
from tinyfleet.security.bearer import OPERATOR

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05
log = logging.getLogger("local_fleet")

MAX_FAILURES = 5  # within FAILURE_WINDOW_S; our choice: more is a fault, not an accident
FAILURE_WINDOW_S = 20.0
_EXIT_INVALID = 2
BOARDS = "boards"  # the process that boards are attached to, as its log is called


class FleetFailed(TinyFleetError):
    """A process of the local fleet could not be started or kept running."""


@dataclass
class Member:
    """One process of the fleet: how to start it, and where its log is."""

    name: str
    command: list[str]
    log: Path
    address_file: Path | None = None
    process: subprocess.Popen[bytes] | None = None
    failures: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Start the process; its output is appended to its log."""
        with self.log.open("ab") as log:
            self.process = _spawn(self.command, log)

    def last_line(self) -> str:
        """The last line it logged, for an error message."""
        lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1] if lines else "it logged nothing"


class LocalFleet:
    """Services and agents on loopback; use it as a context manager.

    folder: where state, logs and addresses go. agents: how many. agent_options: flags every agent
    gets. on_event: called with one line when a process is restarted. boards: URLs of boards, which
    become `board-1`, `board-2` and so on in the fleet. secure: whether they prove who they are,
    with certificates of an authority made for this fleet; an operator's is in `tls`.
    signing: whether more agents can join by token then.
    Raises FleetFailed when a process cannot be started.
    """

    def __init__(
        self,
        folder: Path,
        agents: int,
        agent_options: Sequence[str] = (),
        on_event: Callable[[str], None] = log.info,
        boards: Sequence[str] = (),
        *,
        secure: bool = False,
        signing: bool = False,
    ) -> None:
        self.folder = folder
        self.members: list[Member] = []
        self._agents = [f"agent-{number}" for number in range(1, agents + 1)]
        self._boards = {f"board-{number}": url for number, url in enumerate(boards, 1)}
        self._agent_options = list(agent_options)
        self._secure = secure
        self._signing = signing
        self._on_event = on_event
        self._failure: str | None = None
        self._stopping = threading.Event()
        self._watchdog = threading.Thread(target=self._supervise, daemon=True)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Raise FleetFailed when the fleet could not be kept running."""
        if self._failure:
            raise FleetFailed(self._failure)

    def wait_for_agents(self, fleet: Fleet, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return once every agent and board is attached; raises FleetFailed after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        missing = {*self._agents, *self._boards}
        while missing and time.monotonic() < deadline:
            self.check()
            with contextlib.suppress(Unreachable):  # the coordinator is being restarted
                missing -= {agent.name for agent in fleet.list_agents(attached_only=True)}
            if missing:
                time.sleep(POLL_S)
        if missing:
            raise FleetFailed(self._why_missing(sorted(missing), timeout_s))

    def _why_missing(self, names: list[str], timeout_s: float) -> str:
        """Who is missing, and the last that the first of them has logged."""
        process = BOARDS if names[0] in self._boards else names[0]
        last = next(member.last_line() for member in self.members if member.name == process)
        return f"{', '.join(names)} not attached within {timeout_s:g} s; {process} says: {last}"

    def stop(self) -> None:
        """End all processes, agents first; those that do not end in time are killed."""
        self._stopping.set()
        if self._watchdog.is_alive():
            self._watchdog.join()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        agents = [member for member in self.members if member.address_file is None]
        services = [member for member in self.members if member.address_file is not None]
        for group in (agents, services):
            for member in group:
                if member.process:
                    member.process.send_signal(signal.SIGTERM)
            for member in group:
                _wait_or_kill(member.process, deadline)

    def _start(self) -> None:
        for part in ("logs", "state", "addresses"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        if self._secure:
            self._issue()
        self.metrics = self._start_service("metrics")
        self.aggregator = self._start_service("aggregator", "--metrics", self.metrics)
        self.coordinator = self._start_service(
            "coordinator",
            *("--aggregator", self.aggregator, "--metrics", self.metrics),
            *self._signing_options(),
        )
        for name in self._agents:
            self._start_agent(name)
        if self._boards:
            self._start_agent(BOARDS, "--no-host-training", *self._device_options())
        self._watchdog.start()

    @property
    def tls(self) -> Path | None:
        """The folder with an operator's certificate; None when the fleet has none."""
        return self.folder / "tls" / OPERATOR if self._secure else None

    def _issue(self) -> None:
        # Signing needs the extra [tls], which a fleet without certificates does without.
        from tinyfleet.security.site import issue_site

        agents: dict[str, Sequence[str]] = dict.fromkeys(self._agents, ())
        if self._boards:
            agents[BOARDS] = list(self._boards)
        issue_site(self.folder / "tls", agents)

    def _tls_options(self, name: str) -> list[str]:
        return ["--tls", str(self.folder / "tls" / name)] if self._secure else []

    def _signing_options(self) -> list[str]:
        ca = str(self.folder / "tls" / "ca")
        return ["--ca", ca, "--enrol-listen", "127.0.0.1:0"] if self._signing else []

    def _device_options(self) -> list[str]:
        """--device for every board, with the name it has in the fleet."""
        urls = [
            f"{url}{'&' if '?' in url else '?'}name={name}" for name, url in self._boards.items()
        ]
        return [word for url in urls for word in ("--device", url)]

    def _start_service(self, name: str, *options: str) -> str:
        address_file = self.folder / "addresses" / name
        address_file.unlink(missing_ok=True)
        state = str(self.folder / "state" / name)
        module = [sys.executable, "-m", f"services.{name}"]
        where = ["--state", state, "--port-file", str(address_file)]
        command = [*module, *where, *options, *self._tls_options(name), "--listen"]
        member = self._add(name, [*command, "127.0.0.1:0"], address_file)
        address = self._address_of(member)
        member.command = [*command, address]  # a restart comes back on the same address
        return address

    def _start_agent(self, name: str, *options: str) -> None:
        module = [sys.executable, "-m", "edge_agents"]
        who = ["--coordinator", self.coordinator, "--name", name, *self._tls_options(name)]
        files = ["--models", str(self.folder / "models" / name)]
        self._add(name, [*module, *who, *files, *self._agent_options, *options], None)

    def _add(self, name: str, command: list[str], address_file: Path | None) -> Member:
        log = self.folder / "logs" / f"{name}.log"
        member = Member(name, command, log, address_file)
        member.start()
        self.members.append(member)
        return member

    def _address_of(self, member: Member) -> str:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if member.address_file and member.address_file.exists():
                return member.address_file.read_text("utf-8").strip()
            if member.process and member.process.poll() is not None:
                raise FleetFailed(f"{member.name} did not start: {member.last_line()}")
            time.sleep(POLL_S)
        raise FleetFailed(f"{member.name} did not start within {START_TIMEOUT_S:g} s")

    def _supervise(self) -> None:
        while not self._stopping.wait(POLL_S):
            for member in self.members:
                status = member.process.poll() if member.process else None
                if status is not None and not self._restart(member, status):
                    return

    def _restart(self, member: Member, status: int) -> bool:
        if status > 0 and self._fails_too_often(member, status):
            self._failure = f"{member.name} ended with status {status}: {member.last_line()}"
            return False
        self._on_event(f"{member.name} ended ({_reason(status)}), starting it again")
        member.start()
        return True

    def _fails_too_often(self, member: Member, status: int) -> bool:
        """Whether starting it again is no use. A signal is somebody's doing and does not count."""
        now = time.monotonic()
        member.failures = [at for at in member.failures if at > now - FAILURE_WINDOW_S] + [now]
        return status == _EXIT_INVALID or len(member.failures) > MAX_FAILURES


def open_folder(folder: Path) -> Path:
    """`folder`, made if missing and absolute; raises InvalidInput when that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot use folder {folder}: {error.strerror}") from None
    return folder.resolve()


def _spawn(command: list[str], log: IO[bytes]) -> subprocess.Popen[bytes]:
    # SIGINT is for the owner, which stops its members in order: they get their own session.
    guard = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    return subprocess.Popen(
        [*guard, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _wait_or_kill(process: subprocess.Popen[bytes] | None, deadline: float) -> None:
    if process is None:
        return
    try:
        process.wait(max(deadline - time.monotonic(), 0.0))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reason(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"

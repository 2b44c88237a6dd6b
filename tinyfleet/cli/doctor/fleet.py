"""The doctor's look at a fleet: who answers, in which version, and what time it is there."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from tinyfleet import __version__
from tinyfleet.cli.doctor.certificates import DAY_S, SOON_DAYS
from tinyfleet.cli.doctor.finding import Finding, note, ok, problem
from tinyfleet.client import Fleet
from tinyfleet.errors import InvalidInput, TinyFleetError, one_line
from tinyfleet.introduced import (
    CERTIFICATE_METADATA,
    SERVICE_METADATA,
    TIME_METADATA,
    VERSION_METADATA,
)
from tinyfleet.security.channels import channel
from tinyfleet.security.handshakes import diagnosed
from tinyfleet.v1 import coordinator_pb2

HERE = "127.0.0.1"
PORTS = {"coordinator": 7310, "aggregator": 7311, "metrics": 7312}  # where services listen
CHECK = "/grpc.health.v1.Health/Check"
CALL_S = 5.0  # our choice: a service that is well answers in milliseconds
# Our choice: certificates and times of samples bear minutes, logs are read side by side.
CLOCK_S = 2.0
_SERVING = b"\x08\x01"  # HealthCheckResponse{status: SERVING}: no need of the extra [services]
_OPTIONS = (("grpc.enable_http_proxy", 0),)
NOBODY = "nobody listens"


@dataclass(frozen=True)
class Answer:
    """A health check's. asked_s, answered_s: by our clock. metadata: as it introduced itself."""

    serving: bool
    asked_s: float
    answered_s: float
    metadata: Mapping[str, str]

    @property
    def version(self) -> str:
        return one_line(self.metadata.get(VERSION_METADATA, ""))

    @property
    def offset_s(self) -> float | None:
        """By how much its clock is ahead of ours at least, behind if negative; None: not said.

        The time that the call took is in our favour, as in NTP.
        """
        try:
            there = float(self.metadata[TIME_METADATA])
        except (KeyError, ValueError):
            return None
        return there - min(max(there, self.asked_s), self.answered_s)

    @property
    def certificate_days(self) -> float | None:
        """For how long its certificate is still good, by its own clock; None: not said."""
        try:
            there = float(self.metadata[TIME_METADATA])
            return (float(self.metadata[CERTIFICATE_METADATA]) - there) / DAY_S
        except (KeyError, ValueError):
            return None


class NoAnswer(Exception):
    """Nobody there, or nobody of ours; the message says which."""


def ask(name: str, address: str, tls: Path | None = None) -> Answer:
    """Check the health of the service `name` at `address`; raises NoAnswer.

    tls: the folder with our certificate. Raises InvalidInput when it will not do, or is needed.
    """
    with channel(address, name, tls, _OPTIONS) as line:
        check: Any = line.unary_unary(CHECK, None, None)
        asked_s = time.time()
        try:
            status, call = check.with_call(b"", timeout=CALL_S)
        except grpc.RpcError as error:
            raise NoAnswer(_why(address, tls, error)) from None
        metadata = {str(key): str(value) for key, value in call.trailing_metadata() or ()}
        return Answer(status == _SERVING, asked_s, time.time(), metadata)


def look_at_service(
    name: str, address: str, remedy: str, tls: Path | None
) -> tuple[Answer | None, Finding]:
    """How a service is, and its answer if it is that one. remedy: for when it does not answer."""
    try:
        answer = ask(name, address, tls)
    except NoAnswer as error:
        return None, problem(name, f"{error} at {address}", remedy)
    except InvalidInput as error:
        message, _, what_to_do = str(error).rpartition(": ")
        return None, problem(name, message, what_to_do)
    who = one_line(answer.metadata.get(SERVICE_METADATA, ""))
    if who not in ("", name):
        return None, problem(name, f"{address} is the {who}", f"give the {name}'s address")
    return answer, _judged(name, address, answer)


def _judged(name: str, address: str, answer: Answer) -> Finding:
    if not answer.serving:
        message = f"{address} answers, and cannot do its work"
        return problem(name, message, "look at its log: its disk is full or broken, most often")
    days = answer.certificate_days
    if days is not None and days < SOON_DAYS:
        message = f"{address} serves, and its certificate ends in {days:,.0f} days"
        return note(name, message, "tinyfleet ca renew FOLDER: docs/security.md")
    if answer.version != __version__:
        version = answer.version or "an unknown version"
        message = f"{address} has {version}, this command {__version__}"
        return note(name, message, "use the same version for services and command: docs/upgrade.md")
    return ok(name, f"{address} serves, version {answer.version}")


def look_at_ports() -> Iterator[Finding]:
    """Whether another program has the ports of services on this machine."""
    for name, port in PORTS.items():
        try:
            ask(name, f"{HERE}:{port}")
        except NoAnswer as error:
            if str(error) != NOBODY:
                remedy = f"if it is none of yours, give the {name} another --listen"
                yield note("ports", f"{port}, the {name}'s: {error}", remedy)


def look_at_clock(answer: Answer) -> Finding:
    """Our clock against the coordinator's."""
    offset_s = answer.offset_s
    if offset_s is None:
        return note("clock", "the coordinator does not say what time it is")
    if abs(offset_s) <= CLOCK_S:
        return ok("clock", "agrees with the coordinator's")
    way = "behind" if offset_s > 0 else "ahead of"
    return problem(
        "clock",
        f"{abs(offset_s):,.0f} s {way} the coordinator's",
        "set the clock: timedatectl set-ntp true, on both machines",
    )


def look_at_agents(coordinator: str, tls: Path | None) -> Iterator[Finding]:
    """Who is attached, who gets no work, and who is of another version."""
    try:
        with Fleet(coordinator, CALL_S, tls=tls) as fleet:
            agents = fleet.list_agents(attached_only=True)
            runs = fleet.list_runs(limit=100)
    except TinyFleetError as error:
        yield problem("agents", str(error), "look at the coordinator's log")
        return
    yield _attended(len(agents), runs)
    other = sorted(one.name for one in agents if one.capabilities.version != __version__)
    if other:
        message = f"{len(other)} of another version than {__version__}: {_some(other)}"
        yield note("agents", message, "upgrade them when it suits: docs/upgrade.md")
    for agent in [one for one in agents if one.message][:5]:
        yield note("agents", f"{one_line(agent.name)} gets no work: {one_line(agent.message)}")
    going = (coordinator_pb2.RUN_STATUS_PENDING, coordinator_pb2.RUN_STATUS_RUNNING)
    for run in [one for one in runs if one.status in going and one.message and agents][:5]:
        yield note("runs", f"{one_line(run.run_id)}: {one_line(run.message)}")


def _attended(count: int, runs: list[coordinator_pb2.Run]) -> Finding:
    going = (coordinator_pb2.RUN_STATUS_PENDING, coordinator_pb2.RUN_STATUS_RUNNING)
    waiting = sum(run.status in going for run in runs)
    if waiting and not count:
        remedy = "start agents: tinyfleet-agent --coordinator HOST:PORT --name NAME"
        return problem("agents", f"none attached, {waiting} runs wait for some", remedy)
    return ok("agents", f"{count} attached, {waiting} runs go on")


def _some(names: list[str]) -> str:
    shown = ", ".join(one_line(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _why(address: str, tls: Path | None, error: grpc.RpcError) -> str:
    """What to call it when a health check fails: nobody there, somebody else, or it hangs."""
    code, details = error.code(), one_line((error.details() or "").strip())
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return "another program answers"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return "no answer in time"
    if cause := diagnosed(error.details() or "", address, tls):
        return f"no connection ({cause})"
    if code is not grpc.StatusCode.UNAVAILABLE:
        return f"refused ({code.name.lower()}: {details})"
    return _why_unavailable(address)


def _why_unavailable(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CALL_S):
            return "something answers that does not speak to us (TLS, or another program)"
    except ConnectionRefusedError:
        return NOBODY
    except TimeoutError:
        return "no way (a firewall, or the machine is off)"
    except OSError as error:
        return f"no way ({one_line(error.strerror or str(error))})"

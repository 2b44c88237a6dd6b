"""Boards without hardware: the firmware under QEMU, or as a process of this machine.

Each has its line over a pair of sockets, which needs no port and no path, and ends with this
process however that ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mcu_bridge.emulator import serial_command
from mcu_bridge.errors import LineLost
from mcu_bridge.images import firmware_image
from mcu_bridge.lines.descriptor import DescriptorLine
from tinyfleet.errors import InvalidInput, one_line

_ENDED = "the emulated board has ended; open it anew"
_CONTROL_S = 5.0  # for QEMU to answer
_ID_BYTES = 8  # each start is a new board, with a unique id of its own


async def open_emulated(board: str, name: str | None = None) -> EmulatedBoard:
    """A new board, as after power-on: `mps2-an386` under QEMU, or `host`.

    Builds the firmware where it is not fresh. Raises InvalidInput when a tool is missing, LineLost
    when the machine has no room for one more process.
    """
    kind = QemuBoard if board == "mps2-an386" else HostBoard
    kind.check_tools()
    image = await asyncio.to_thread(firmware_image, board)
    name = name or f"emulated://{board}"
    try:
        return kind(image, name)
    except OSError as error:
        raise LineLost(f"{name}: cannot be started: {error.strerror}") from None


class EmulatedBoard:
    """A running board and its Line. `power_cut` is what a pulled plug does; open a new one then.

    Made on the thread that lives as long as the board is to: it ends with that thread.
    """

    def __init__(self, name: str, started: _Started, line: DescriptorLine) -> None:
        self.name = name
        self.process = started.process
        self._complaints = started.complaints
        self._line = line

    @staticmethod
    def check_tools() -> None:
        """Raise InvalidInput, which names the package, when a command is missing."""
        _guard()

    async def read(self) -> bytes:
        try:
            return await self._line.read()
        except LineLost as lost:
            complaint = _last_line(self._complaints)
            raise LineLost(f"{lost}: {complaint}" if complaint else str(lost)) from None

    async def write(self, data: bytes) -> None:
        await self._line.write(data)

    async def close(self) -> None:
        self._line.close_now()
        await self.power_cut()
        self._complaints.close()

    async def power_cut(self) -> None:
        """End the board at once: the line is lost, its memory too."""
        self.process.kill()
        await asyncio.to_thread(self.process.wait)

    async def stop(self) -> None:
        """Halt the board, as if it hung: the line stays, nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    async def cont(self) -> None:
        """Let a halted board run on."""
        self.process.send_signal(signal.SIGCONT)

    async def reset(self) -> None:
        """Press the board's reset button."""
        raise NotImplementedError


class HostBoard(EmulatedBoard):
    """The firmware as a process: its line is its standard input and output."""

    def __init__(self, program: Path, name: str = "emulated://host") -> None:
        ours, theirs = socket.socketpair()
        command = [str(program), "--id", secrets.token_hex(_ID_BYTES)]
        with theirs:
            started = _start(command, [], stdin=theirs, stdout=theirs)
        super().__init__(name, started, DescriptorLine(name, ours.detach(), _ENDED))

    async def reset(self) -> None:
        # The alarm is its watchdog, after which the process executes itself anew.
        self.process.send_signal(signal.SIGALRM)


class QemuBoard(EmulatedBoard):
    """The firmware on QEMU's mps2-an386, not counting instructions: as fast as the host allows."""

    def __init__(self, program: Path, name: str = "emulated://mps2-an386") -> None:
        ours, theirs = socket.socketpair()
        control, control_theirs = socket.socketpair()
        with theirs, control_theirs:
            at, control_at = theirs.fileno(), control_theirs.fileno()
            command = serial_command(program, at, control_at, secrets.token_bytes(_ID_BYTES))
            started = _start(command, [at, control_at])
        self._control = _QemuControl(name, control)
        super().__init__(name, started, DescriptorLine(name, ours.detach(), _ENDED))

    @staticmethod
    def check_tools() -> None:
        _guard()
        serial_command(Path(), 0, 0)

    async def close(self) -> None:
        await self._control.close()
        await super().close()

    async def stop(self) -> None:
        await self._control.execute("stop")

    async def cont(self) -> None:
        await self._control.execute("cont")

    async def reset(self) -> None:
        await self._control.execute("system_reset")


class _QemuControl:
    """QEMU's machine protocol (QMP): JSON, a line each; replies among events."""

    def __init__(self, name: str, connection: socket.socket) -> None:
        self._name = name
        self._connection: socket.socket | None = connection
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def execute(self, command: str) -> None:
        """Have QEMU do something; raises LineLost when it has ended."""
        try:
            async with asyncio.timeout(_CONTROL_S):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(sock=self._connection)
                    await self._ask("qmp_capabilities")
                await self._ask(command)
        except (OSError, ValueError, TimeoutError) as error:
            raise LineLost(f"{self._name}: {_ENDED} ({error})") from None

    async def _ask(self, command: str) -> None:
        assert self._streams is not None  # noqa: S101 - `execute` made them
        reader, writer = self._streams
        writer.write(json.dumps({"execute": command}).encode() + b"\n")
        await writer.drain()
        while True:
            answer: dict[str, Any] = json.loads(await reader.readline())
            if "error" in answer:
                raise ValueError(one_line(str(answer["error"].get("desc"))))
            if "return" in answer:
                return

    async def close(self) -> None:
        """Free the connection."""
        if self._streams is not None:
            self._streams[1].close()
        elif self._connection is not None:
            self._connection.close()
        self._connection = self._streams = None


def _guard() -> list[str]:
    """What makes a process end with its parent, also with one that ended a moment ago."""
    if shutil.which("setpriv") is None:
        raise InvalidInput("setpriv is not installed; the package util-linux has it")
    # The signal is for an end after setpriv has asked for it; the shell sees one before.
    still_there = f'[ "$PPID" = {os.getpid()} ] && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "sh", "-c", still_there, "sh"]


@dataclass(frozen=True)
class _Started:
    """A process, and the file that takes what it says on stderr."""

    process: subprocess.Popen[bytes]
    complaints: IO[bytes]


def _start(command: list[str], descriptors: list[int], **files: Any) -> _Started:
    complaints = tempfile.TemporaryFile()  # noqa: SIM115 - it goes with the board
    # A session of its own: Ctrl-C is for us, and we end the board when we are done with it.
    streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL} | files
    process = subprocess.Popen(
        [*_guard(), *command],
        stderr=complaints,
        pass_fds=descriptors,
        start_new_session=True,
        **streams,
    )
    return _Started(process, complaints)


def _last_line(complaints: IO[bytes]) -> str:
    """The last thing said that may be why the process ended: QEMU warns of what is no matter."""
    complaints.seek(max(complaints.seek(0, os.SEEK_END) - 400, 0))
    lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
    reasons = [line for line in lines if "warning: " not in line]
    return one_line(reasons[-1]) if reasons else ""

"""Serial ports and other terminals: raw, and this program's alone."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import termios
from typing import TYPE_CHECKING

from mcu_bridge.errors import LineLost
from mcu_bridge.lines.descriptor import DescriptorLine
from tinyfleet.errors import InvalidInput, Refused, TinyFleetError, one_line

if TYPE_CHECKING:
    import serial

_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6  # in what tcgetattr gives
_UNPLUGGED = "the board is gone; plug it in again"


def open_terminal(name: str, path: str) -> DescriptorLine:
    """A terminal (a pty, a USB port without a speed) in raw mode.

    Raises LineLost when it is not there, Refused when somebody has it open, InvalidInput when it is
    no terminal.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise open_error(path, error) from None
    try:
        _claim(path, descriptor)
        _make_raw(descriptor)
    except termios.error as error:
        os.close(descriptor)
        raise InvalidInput(f"{path} is not a serial port or terminal ({error.args[-1]})") from None
    except BaseException:
        os.close(descriptor)
        raise
    return DescriptorLine(name, descriptor, _UNPLUGGED)


def open_serial(name: str, path: str, baud: int) -> DescriptorLine:
    """A serial port at a speed; raises what `open_terminal` raises, and InvalidInput for the speed.

    pyserial knows how each system sets speeds that termios does not list; bytes then move by
    the descriptor alone.
    """
    try:
        import serial
    except ModuleNotFoundError:
        raise InvalidInput(
            "serial:// needs pyserial: python -m pip install 'tinyfleet[mcu]'"
        ) from None
    try:
        port = serial.Serial(path, baud, timeout=0, exclusive=True)
    except serial.SerialException as error:
        raise open_error(path, error) from None
    except (ValueError, OSError, termios.error):
        raise InvalidInput(f"{path} cannot run at {baud} baud; give another ?baud=") from None
    return _line_of(port, name)


def _line_of(port: serial.Serial, name: str) -> DescriptorLine:
    # Some USB adapters collect bytes for 16 ms, the time of six blocks; others refuse the request.
    with contextlib.suppress(OSError, ValueError, NotImplementedError):
        port.set_low_latency_mode(True)
    port.reset_input_buffer()
    descriptor = os.dup(port.fileno())  # shares the lock and the settings with pyserial's
    os.set_inheritable(descriptor, False)
    with contextlib.suppress(OSError, termios.error):
        _claim(name, descriptor)
    port.close()
    return DescriptorLine(name, descriptor, _UNPLUGGED)


def open_error(path: str, error: OSError) -> TinyFleetError:
    """What a failure to open means to the user."""
    number = error.errno
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV, errno.EIO):
        return LineLost(f"{path} is not there; plug the board in, or correct the path")
    if number in (errno.EACCES, errno.EPERM):
        return Refused(f"no permission to open {path}; add this user to the group dialout")
    if number in (errno.EBUSY, errno.EAGAIN):
        return Refused(f"{path} is in use by another program; a board serves one at a time")
    return LineLost(f"{path} cannot be opened: {one_line(str(error))}")


def _claim(path: str, descriptor: int) -> None:
    """Nobody else opens it: other bridges ask for the lock, all but root meet TIOCEXCL."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise open_error(path, error) from None
    with contextlib.suppress(OSError):  # not a terminal: _make_raw says so
        fcntl.ioctl(descriptor, termios.TIOCEXCL)


def _make_raw(descriptor: int) -> None:
    settings = termios.tcgetattr(descriptor)
    settings[_INPUT] = settings[_OUTPUT] = settings[_LOCAL] = 0  # nothing translated, echoed, kept
    # Eight bits, one stop bit, no modem lines; to close the line must not reset a board.
    settings[_CONTROL] &= ~(
        termios.CSIZE | termios.PARENB | termios.CSTOPB | termios.CRTSCTS | termios.HUPCL
    )
    settings[_CONTROL] |= termios.CS8 | termios.CREAD | termios.CLOCAL
    settings[_CHARACTERS][termios.VMIN], settings[_CHARACTERS][termios.VTIME] = 1, 0
    termios.tcsetattr(descriptor, termios.TCSANOW, settings)
    termios.tcflush(descriptor, termios.TCIOFLUSH)

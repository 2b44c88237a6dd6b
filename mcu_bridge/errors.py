"""The errors of an attached board, one class per remedy; each is an error of the core library.

Unreachable
├── LineLost         the line itself is gone: plug the board in again, start the emulator again
├── NoAnswer         the line is there, the board is silent: reset it, flash it, check the speed
└── DeviceRestarted  the board started anew and knows nothing: connect anew
Refused
├── WrongVersion     host and firmware speak different versions: flash, or update the host
├── DeviceRefused    the board answered no; `status` says why
└── BadAnswer        the board answered what the protocol does not allow: flash it
DoesNotFit
└── ModelDoesNotFit  the board has `available` bytes and the model takes `needed`
"""

from __future__ import annotations

from enum import IntEnum

from tinyfleet.errors import DoesNotFit, Refused, Unreachable


class Status(IntEnum):
    """First byte of every response. MUST match docs/formats/device.md."""

    OK = 0
    BAD_REQUEST = 1
    UNKNOWN_COMMAND = 2
    NOT_IDENTIFIED = 3
    WRONG_STATE = 4
    BAD_LAYER = 5
    TOO_LARGE = 6
    DOES_NOT_FIT = 7
    INCOMPLETE = 8
    CORRUPT = 9
    NO_SENSOR = 10
    NO_TRANSFER = 11


REASONS = {
    Status.BAD_REQUEST: "a value or a length is out of range",
    Status.UNKNOWN_COMMAND: "its firmware does not know the command; flash the current one",
    Status.NOT_IDENTIFIED: "it has restarted; connect anew",
    Status.WRONG_STATE: "something must come before it",
    Status.BAD_LAYER: "its firmware cannot run a layer of the model; flash the current one",
    Status.TOO_LARGE: "a size is beyond what it can count",
    Status.DOES_NOT_FIT: "it has not enough memory; choose a smaller model",
    Status.INCOMPLETE: "not all bytes have arrived",
    Status.CORRUPT: "the bytes that arrived have another checksum; send them again",
    Status.NO_SENSOR: "it has no sensor; send it samples",
    Status.NO_TRANSFER: "it has no such transfer open; start it again",
}


class LineLost(Unreachable):
    """The line is gone: the board was unplugged, the device file is missing, the emulator ended."""


class NoAnswer(Unreachable):
    """The line is there and the board has been silent for longer than the caller's patience."""


class DeviceRestarted(Unreachable):
    """The board has restarted: model, parameters and transfers are gone. Connect anew."""


class WrongVersion(Refused):
    """The board speaks another version of the link, the device protocol or the learner."""


class DeviceRefused(Refused):
    """The board answered a request with a status other than OK, kept as `status`."""

    def __init__(self, status: int, request: str) -> None:
        known = status in Status.__members__.values()
        reason = REASONS.get(Status(status), "") if known else f"status {status}"
        super().__init__(f"the board refused {request}: {reason}")
        self.status = status


class BadAnswer(Refused):
    """An intact answer of the board contradicts the protocol or what was asked."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the board's answer cannot be right: {what}; flash its firmware")


class ModelDoesNotFit(DoesNotFit):
    """The board has `available` bytes for model and training, the model takes `needed`."""

    def __init__(self, needed: int, available: int, model: str = "the model") -> None:
        super().__init__(
            f"{model} needs {needed:,} bytes, the board has {available:,}:"
            f" {needed - available:,} too few; choose a smaller model"
        )
        self.needed = needed
        self.available = available

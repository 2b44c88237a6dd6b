"""Why a message, or a sample made of it, is of no use."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """What refusals are counted by."""

    LAYOUT = "layout"
    """The layout contradicts itself, or is another than the fields name."""
    SIZE = "size"
    """Fewer values than the fields, or the layout, say."""
    JOINT = "joint"
    """A joint is missing, or there twice."""
    NOT_MEASURED = "not measured"
    """The sensor says that it does not measure this."""
    NOT_FINITE = "not finite"
    """NaN, infinity, or beyond float32 once normalised."""
    NO_LABEL = "no label"
    """No message came on the topic of labels yet."""
    OLD_LABEL = "old label"
    """The newest label is older than it may be."""
    CLASS = "class"
    """The label is no number of a class."""


class RefusedMessage(Exception):
    """A message is of no use; the message of this is one line."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason

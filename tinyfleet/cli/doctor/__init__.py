"""`tinyfleet doctor`: looks at this machine and at a fleet, and says what to do."""

from tinyfleet.cli.doctor.command import command

__all__ = ["command"]

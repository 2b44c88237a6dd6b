"""The `tinyfleet device` commands: what people type for attached boards.

The one part of the bridge that needs click and rich. `tinyfleet.cli.commands` names it by a string.
"""

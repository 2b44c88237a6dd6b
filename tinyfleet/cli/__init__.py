"""The `tinyfleet` command.

Adding a command: a module here that exposes `command` (a `click.Command`), and a line in
`tinyfleet.cli.commands`. Results go to stdout, everything else to stderr; `--json` prints exactly
one object on stdout. Exit codes are in `tinyfleet.cli.exits`.
"""

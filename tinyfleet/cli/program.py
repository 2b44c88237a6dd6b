"""The command group: loads commands when they are called, turns errors into one line and a code."""

from __future__ import annotations

import importlib
import os
import sys
import traceback

import click

from tinyfleet import __version__
from tinyfleet.cli.commands import COMMANDS
from tinyfleet.cli.console import examples
from tinyfleet.cli.exits import ExitCode, exit_code_of
from tinyfleet.errors import TinyFleetError, unknown_name

_EPILOG = (
    "Exit codes: 0 done, 1 internal error, 2 invalid input, 3 service not reachable, "
    "4 refused or failed, 5 interrupted."
)
_EXAMPLES = examples(
    "tinyfleet simulate                   a whole federation in one process",
    "tinyfleet up --agents 8              services and agents on this machine",
    "tinyfleet simulate --help            a command's flags, and more examples",
)


class LazyGroup(click.Group):
    """A group whose help names every command without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            raise unknown_name("command", name, COMMANDS)
        return load_command(name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])


def load_command(name: str) -> click.Command:
    """The command's object; raises ClickException, naming the extra, where it is not installed."""
    entry = COMMANDS[name]
    module, _, attribute = entry.target.partition(":")
    try:
        command = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name == module:
            raise click.ClickException(f"'{name}' is not part of this installation") from error
        raise click.ClickException(
            f"'{name}' needs {error.name}: pip install 'tinyfleet[{entry.extra}]'"
        ) from error
    assert isinstance(command, click.Command)  # noqa: S101  a mistake in the table
    return command


@click.group(
    cls=LazyGroup,
    epilog=f"{_EXAMPLES}\n\n{_EPILOG}",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(__version__, prog_name="tinyfleet")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def group(debug: bool) -> None:
    """Federated few-shot learning for fleets of small devices."""
    del debug  # read by `run`, which sees errors that are raised before this function is called


def run(arguments: list[str] | None = None) -> int:
    """Run one command line; returns its exit code. Every error becomes one line on stderr."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = _debug_wanted(words)
    try:
        code = group.main(args=words, prog_name="tinyfleet", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  the last one to catch anything
        if debug:
            traceback.print_exc()
        return _report(error)
    return code if isinstance(code, int) else ExitCode.DONE


def _debug_wanted(words: list[str]) -> bool:
    before_command = words[: next((i for i, w in enumerate(words) if w in COMMANDS), None)]
    return "--debug" in before_command or os.environ.get("TINYFLEET_DEBUG") == "1"


def _report(error: BaseException) -> int:
    """Print the error and give its exit code."""
    if isinstance(error, TinyFleetError):
        _say(str(error))
        return exit_code_of(error)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return ExitCode.INVALID
    if isinstance(error, click.ClickException):
        _say(_click_message(error))
        return ExitCode.INVALID
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _say("interrupted")
        return ExitCode.INTERRUPTED
    if isinstance(error, SystemExit):  # from click alone: it met a broken pipe before us
        return ExitCode.DONE
    if isinstance(error, BrokenPipeError):
        # The reader has what it wanted; without this, the interpreter complains while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.DONE
    if isinstance(error, Exception):
        _say(f"internal error, {type(error).__name__}: {error} (tinyfleet --debug shows where)")
        return ExitCode.INTERNAL
    raise error


def _click_message(error: click.ClickException) -> str:
    context = getattr(error, "ctx", None)
    hint = f" (see {context.command_path} --help)" if context is not None else ""
    return f"{error.format_message()}{hint}"


def _say(message: str) -> None:
    print(f"tinyfleet: {' '.join(message.split())}", file=sys.stderr)

"""The command line: fast help, one line for every error, documented exit codes."""

import os
import subprocess
import sys

import click
import pytest

from tinyfleet.cli import program
from tinyfleet.cli.commands import COMMANDS
from tinyfleet.cli.exits import ExitCode, Interrupted, exit_code_of
from tinyfleet.errors import (
    Diverged,
    DoesNotFit,
    InvalidInput,
    Refused,
    TinyFleetError,
    Unreachable,
)


@pytest.fixture
def failing(monkeypatch):
    """Makes `tinyfleet models` raise what a test chooses."""

    def install(error):
        @click.command("models")
        def command():
            raise error

        monkeypatch.setattr(program, "load_command", lambda name: command)

    return install


def python(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def stderr_of(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("bad value"), 2),
        (Unreachable("nobody there"), 3),
        (Refused("no"), 4),
        (Diverged("too fast"), 4),
        (DoesNotFit("too large"), 4),
        (TinyFleetError("something"), 4),
        (Interrupted("stopped, kept in x"), 5),
        (KeyboardInterrupt(), 5),
        (click.UsageError("no such option"), 2),
        (RuntimeError("a bug"), 1),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(failing, capsys, error, code):
    failing(error)
    assert program.run(["models"]) == code
    line = stderr_of(capsys).lstrip("\n")  # click ends the line that ^C stands in
    assert line.startswith("tinyfleet: ")
    assert line.count("\n") == 1
    assert "Traceback" not in line


def test_an_internal_error_says_how_to_see_more(failing, capsys):
    failing(RuntimeError("a bug"))
    program.run(["models"])
    assert "RuntimeError: a bug (tinyfleet --debug shows where)" in stderr_of(capsys)


def test_debug_shows_the_traceback(failing, capsys):
    failing(RuntimeError("a bug"))
    assert program.run(["--debug", "models"]) == ExitCode.INTERNAL
    assert "Traceback" in stderr_of(capsys)


def test_codes_are_those_the_help_names(capsys):
    assert program.run(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    named = "0 done, 1 internal error, 2 invalid input, 3 service not reachable, "
    assert named + "4 refused or failed, 5 interrupted" in text
    assert [code.value for code in ExitCode] == [0, 1, 2, 3, 4, 5]
    assert exit_code_of(InvalidInput("x")) == ExitCode.INVALID


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["simulat"], "unknown command 'simulat': did you mean 'simulate'?"),
        (["--nothing"], "No such option"),
        (["simulate", "--rounds", "x"], "(see tinyfleet simulate --help)"),
        (["simulate", "--nothing"], "(see tinyfleet simulate --help)"),
        (["evaluate"], "Missing argument 'FILE'"),
    ],
)
def test_mistakes_in_the_command_line_are_named(capsys, words, message):
    assert program.run(words) == ExitCode.INVALID
    assert message in stderr_of(capsys)


def test_no_command_at_all_shows_the_help(capsys):
    assert program.run([]) == ExitCode.INVALID
    assert "Commands:" in stderr_of(capsys)


def test_help_names_every_command(capsys):
    program.run(["--help"])
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_help_imports_no_command():
    script = (
        "import sys; from tinyfleet.cli.program import run; run(['--help']); "
        "heavy = {'numpy', 'rich', 'grpc', 'matplotlib', 'sqlalchemy'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = python(script)
    assert done.returncode == 0, done.stderr


def test_without_click_the_extra_is_named():
    script = (
        "import sys; sys.modules['click'] = None; "
        "import importlib.util as u; find = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'click' else find(name, *a); "
        "from tinyfleet.cli.main import main; main([])"
    )
    done = python(script)
    assert done.returncode == 2
    assert done.stderr == (
        "tinyfleet: the command line needs click: pip install 'tinyfleet[cli]'\n"
    )


def test_a_command_whose_packages_are_missing_names_the_extra(monkeypatch, capsys):
    def missing(_name):
        raise ModuleNotFoundError("No module named 'sqlalchemy'", name="sqlalchemy")

    monkeypatch.setattr(program.importlib, "import_module", missing)
    assert program.run(["up"]) == ExitCode.INVALID
    assert "'up' needs sqlalchemy: pip install 'tinyfleet[services]'" in stderr_of(capsys)


def test_every_command_of_the_table_is_there_and_documents_itself():
    for name in COMMANDS:
        command = program.load_command(name)
        assert command.help
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, (name, parameter.name)


@pytest.mark.parametrize("words", ["models", "--help"])
def test_a_reader_that_has_seen_enough_is_no_error(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "tinyfleet.cli", words]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")

"""Tables and texts: one line a row for programs, never wider than the terminal for people."""

import os

import pytest

from tinyfleet.cli.console import print_table, wrapped

ROWS = [["agent-1", "3", "it has no data: give it some with --data"], ["b", "12,000", ""]]


@pytest.fixture
def terminal(monkeypatch):
    """Makes stdout a terminal of so many columns."""

    def of(columns):
        size = os.terminal_size((columns, 24))
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setattr("shutil.get_terminal_size", lambda: size)

    return of


def test_piped_rows_are_one_line_each_with_numbers_to_the_right(capsys):
    print_table(("agent", "updates", "note"), ROWS)
    assert capsys.readouterr().out.splitlines() == [
        "agent    updates  note",
        "agent-1        3  it has no data: give it some with --data",
        "b         12,000",
    ]


def test_a_cell_too_wide_for_the_terminal_goes_below_its_row(capsys, terminal):
    terminal(30)
    print_table(("agent", "updates", "note"), ROWS)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "agent-1        3",
        "    it has no data: give it",
        "    some with --data",
        "b         12,000",
    ]


def test_a_table_without_rows_has_its_heading(capsys):
    print_table(("agent", "state"), [])
    assert capsys.readouterr().out == "agent  state\n"


def test_texts_are_broken_between_words_only():
    lines = wrapped("kept in out: " + ", ".join(["adapted_images.png"] * 6)).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].startswith("  adapted_images.png")

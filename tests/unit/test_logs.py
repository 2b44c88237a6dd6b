"""A log line is one line, whatever is in it, and a program can read it back."""

import json
import logging
import math
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyfleet.logs import JsonFormatter, TextFormatter, configure_logs, fields

WHEN = 1795246200.1236


def record(phrase="update refused", error=None, arguments=(), **values):
    made = logging.LogRecord("demo", logging.INFO, "x.py", 1, phrase, arguments, error)
    made.created, made.msecs = WHEN, 123.6
    made.__dict__.update(fields(**values))
    return made


def test_text_has_time_level_logger_phrase_and_fields():
    line = TextFormatter().format(record(run="k3f9", reason="too late", count=3))
    assert line == (
        '2026-11-21T07:30:00.123Z INFO demo update refused run=k3f9 reason="too late" count=3'
    )


def test_json_has_the_same_in_one_object():
    line = JsonFormatter().format(record(run="k3f9", count=3, folder=Path("a")))
    assert json.loads(line) == {
        "time": "2026-11-21T07:30:00.123Z",
        "level": "info",
        "logger": "demo",
        "message": "update refused",
        "run": "k3f9",
        "count": 3,
        "folder": "a",
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_stays_json_without_finite_numbers(value):
    def refuse(constant):
        raise AssertionError(constant)

    line = JsonFormatter().format(record(loss=value))
    assert json.loads(line, parse_constant=refuse)["loss"] == str(value)


def test_a_field_cannot_replace_what_every_line_has():
    entry = json.loads(JsonFormatter().format(record(time="never", message="lies")))
    assert entry["time"].startswith("2026")
    assert (entry["time_"], entry["message"], entry["message_"]) == (
        "never",
        "update refused",
        "lies",
    )


def test_the_page_names_every_key_that_a_line_has():
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
    table = page.partition("| key | value |")[2].partition("\n\n")[0]
    named = re.findall(r"^\| `(\w+)` \|", table, re.M)
    caught = (RuntimeError, RuntimeError("surprise"), None)
    entry = json.loads(JsonFormatter().format(record(error=caught, traceback="mine")))
    assert set(entry) == {*named, "traceback_"}
    assert entry["traceback_"] == "mine"
    levels = page.partition("| `level` | ")[2].partition(" |")[0]
    assert levels == ", ".join(
        f"`{logging.getLevelName(one).lower()}`" for one in range(10, 51, 10)
    )


@given(value=st.text(max_size=50), phrase=st.text(max_size=20))
def test_no_value_forges_a_line(value, phrase):
    made = record("said %s", arguments=(phrase,), value=value)
    text = TextFormatter().format(made)
    assert "\n" not in text
    assert "\x1b" not in text.partition("value=")[2]
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert json.loads(line)["value"] == value


@given(words=st.lists(st.text(max_size=9), min_size=2, max_size=5))
def test_a_quoted_value_reads_back(words):
    line = TextFormatter().format(record(value=" ".join(words)))
    assert json.loads(line.partition("value=")[2]) == " ".join(words)


def test_other_libraries_records_have_no_fields():
    made = record()
    del made.fields
    assert TextFormatter().format(made).endswith("update refused")
    made.fields = "something else"
    assert TextFormatter().format(made).endswith("update refused")


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_unexpected_error_keeps_its_traceback_for_the_log(formatter):
    try:
        raise RuntimeError("surprise")
    except RuntimeError as error:
        caught = (RuntimeError, error, error.__traceback__)
    assert "RuntimeError: surprise" in formatter.format(record(error=caught))


@pytest.mark.parametrize(("format", "first"), [("text", "2"), ("json", "{")])
def test_logs_go_to_standard_error_from_the_level_on(format, first, capsys):
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    try:
        configure_logs("warning", format)
        logging.getLogger("demo").info("unheard")
        logging.getLogger("demo").warning("heard", extra=fields(run="a"))
    finally:
        root.setLevel(before[0])
        root.handlers[:] = before[1]
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(first)
    assert "heard" in said.err
    assert "unheard" not in said.err

"""The firmware's link does what the golden vectors say; the vectors keep their schema."""

import copy
import importlib.util
import json

import pytest
from link_in_c import needs
from replay import (
    DOCUMENT,
    FOLDER,
    FRAMES,
    SESSIONS,
    VALID,
    replay_bytes,
    replay_encoding,
    replay_session,
)
from vector_schema import problems

SCHEMA = json.loads((FOLDER / DOCUMENT["schema"]).read_text("utf-8"))


@needs("gcc")
@pytest.mark.parametrize("vector", FRAMES.values(), ids=FRAMES)
def test_bytes_bring_about_the_events(link, vector):
    replay_bytes(link, vector)


@needs("gcc")
@pytest.mark.parametrize("vector", VALID.values(), ids=VALID)
def test_a_valid_frame_is_encoded_as_it_is_there(link, vector):
    replay_encoding(link, vector)


@needs("gcc")
@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_a_session_answers_with_these_frames(link, vector):
    replay_session(link, vector)


def test_the_file_keeps_its_schema():
    assert not list(problems(DOCUMENT, SCHEMA, SCHEMA))
    assert len(FRAMES) == len(DOCUMENT["frames"])
    assert len(SESSIONS) == len(DOCUMENT["sessions"])


def first_events(document):
    return document["frames"][0]["expected"]["events"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document["frames"][0].pop("comment"),
        lambda document: document["frames"][0].update(flags=["unknown"]),
        lambda document: document["frames"][0]["input"].update(wire="0"),
        lambda document: first_events(document)[0].pop("payload"),
        lambda document: first_events(document).append({"event": "nothing"}),
        lambda document: document["sessions"][0]["input"]["steps"][0].update(do="reset"),
        lambda document: document["sessions"][0]["expected"]["counters"].pop("stale"),
        lambda document: document.update(extra=1),
    ],
)
def test_a_spoilt_file_breaks_the_schema(spoil):
    document = copy.deepcopy(DOCUMENT)
    spoil(document)
    assert list(problems(document, SCHEMA, SCHEMA))


def test_there_are_no_fewer_bad_streams_than_good_frames():
    assert sum(vector["flags"] == ["invalid"] for vector in FRAMES.values()) >= len(VALID)


def test_no_two_vectors_hold_the_same_bytes():
    assert len({vector["input"]["wire"] for vector in FRAMES.values()}) == len(FRAMES)


def test_the_generator_writes_the_file_that_is_there(tmp_path, monkeypatch):
    where = importlib.util.spec_from_file_location("make_link", FOLDER / "make_link_vectors.py")
    make = importlib.util.module_from_spec(where)
    where.loader.exec_module(make)
    monkeypatch.setattr(make, "OUTPUT", tmp_path / "link.json")
    make.main()
    assert json.loads((tmp_path / "link.json").read_text("utf-8")) == DOCUMENT

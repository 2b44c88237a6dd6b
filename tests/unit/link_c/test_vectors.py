"""The firmware's link does what the golden vectors say; the vectors keep their schema."""

import copy
import importlib.util
import json
from pathlib import Path

import pytest
from link_in_c import Session, encode, needs, read
from vector_schema import problems

FOLDER = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((FOLDER / "link.json").read_text("utf-8"))
SCHEMA = json.loads((FOLDER / DOCUMENT["schema"]).read_text("utf-8"))
FRAMES = {vector["id"]: vector for vector in DOCUMENT["frames"]}
SESSIONS = {vector["id"]: vector for vector in DOCUMENT["sessions"]}
VALID = {name: vector for name, vector in FRAMES.items() if vector["flags"] == ["valid"]}


@needs("gcc")
@pytest.mark.parametrize("vector", FRAMES.values(), ids=FRAMES)
def test_bytes_bring_about_the_events(link, vector):
    assert read(link, bytes.fromhex(vector["input"]["wire"])) == vector["expected"]["events"]


@needs("gcc")
@pytest.mark.parametrize("vector", VALID.values(), ids=VALID)
def test_a_valid_frame_is_encoded_as_it_is_there(link, vector):
    (frame,) = vector["expected"]["events"]
    wire = encode(link, frame["type"], frame["sequence"], bytes.fromhex(frame["payload"]))
    assert wire.hex() == vector["input"]["wire"]


class Scripted:
    """An application that knows what it will be asked, and answers as the vector says."""

    def __init__(self, given):
        self.answers = list(given["application"])
        self.ends_at = given["ends_at"]
        self.consumed = []

    def execute(self, session, command, payload):
        answer = self.answers.pop(0)
        assert (command, payload.hex()) == (answer["command"], answer["payload"])
        if "opens" in answer:
            opens = answer["opens"]
            arguments = (opens["total"], *([opens["next"]] if opens["direction"] == "in" else []))
            getattr(session, f"open_{opens['direction']}")(*arguments)
        return bytes.fromhex(answer["response"])

    def consume(self, offset, data):
        assert data == self.produce(offset, len(data))
        self.consumed.append(offset)
        return offset < self.ends_at

    def produce(self, offset, count):
        return bytes((i + i // 256) % 256 for i in range(offset, offset + count))


def do(session, step):
    match step["do"]:
        case "receive":
            session.receive(bytes.fromhex(step["wire"]))
        case "room":
            session.room = step["value"]
        case "advance":
            session.advance(step["value"])
        case other:
            getattr(session, other)()


@needs("gcc")
@pytest.mark.parametrize("vector", SESSIONS.values(), ids=SESSIONS)
def test_a_session_answers_with_these_frames(link, vector):
    given, expected = vector["input"], vector["expected"]
    application = Scripted(given)
    session = Session(link, application)
    for step, sent in zip(given["steps"], expected["sent"], strict=True):
        do(session, step)
        assert [frame.hex() for frame in session.take_sent()] == sent, step["note"]
    assert application.answers == []
    assert application.consumed == expected["consumed"]
    counters = session.counters
    assert {name: counters[name] for name in expected["counters"]} == expected["counters"]
    assert session.answered()


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

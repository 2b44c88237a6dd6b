"""Replays the golden vectors of the link.

    python replay.py LIBRARY

plays all of them against one build, for sanitizers that must be there before Python starts.
"""

import json
import sys
from pathlib import Path

from link_in_c import Session, encode, load, read

FOLDER = Path(__file__).parents[2] / "vectors"
DOCUMENT = json.loads((FOLDER / "link.json").read_text("utf-8"))
FRAMES = {vector["id"]: vector for vector in DOCUMENT["frames"]}
SESSIONS = {vector["id"]: vector for vector in DOCUMENT["sessions"]}
VALID = {name: vector for name, vector in FRAMES.items() if vector["flags"] == ["valid"]}


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


def replay_bytes(c, vector):
    assert read(c, bytes.fromhex(vector["input"]["wire"])) == vector["expected"]["events"]


def replay_encoding(c, vector):
    (frame,) = vector["expected"]["events"]
    wire = encode(c, frame["type"], frame["sequence"], bytes.fromhex(frame["payload"]))
    assert wire.hex() == vector["input"]["wire"]


def replay_session(c, vector):
    given, expected = vector["input"], vector["expected"]
    application = Scripted(given)
    session = Session(c, application)
    for step, sent in zip(given["steps"], expected["sent"], strict=True):
        do(session, step)
        assert [frame.hex() for frame in session.take_sent()] == sent, step["note"]
    assert application.answers == []
    assert application.consumed == expected["consumed"]
    counters = session.counters
    assert {name: counters[name] for name in expected["counters"]} == expected["counters"]
    assert session.answered()


def main(library):
    c = load(library)
    for play, vectors in (
        (replay_bytes, FRAMES),
        (replay_encoding, VALID),
        (replay_session, SESSIONS),
    ):
        for vector in vectors.values():
            play(c, vector)
    return len(FRAMES) + len(SESSIONS)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1])}\n")

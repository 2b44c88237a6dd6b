"""A device's session keeps the link's rules, whatever a host sends and however full the line is."""

from device_model import (
    ACK,
    BLOCK,
    DATA,
    IDENTIFY,
    POLL,
    RESPONSE,
    Application,
    DeviceModel,
    block_bytes,
    numbers,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from link_in_c import MAX_RESPONSE, Session, encode, needs, read

pytestmark = needs("gcc")

TOTALS = st.one_of(
    st.integers(0, 6 * BLOCK), st.sampled_from([BLOCK, 2 * BLOCK, 2**32 - 1, 2**32 - 5 * BLOCK])
)
NEAR = st.integers(-2, 4)
ID = st.sampled_from([0, 0, 0, 0, 0, 1, -1])


def opening(letter, total, blocks, wanted, fails):
    start = min(blocks * BLOCK, total)
    return letter + numbers(total, start, wanted * BLOCK) + (b"!" if fails else b"?")


OPENING = st.builds(
    opening,
    st.sampled_from([b"i", b"i", b"o", b"o", b"c", b"x", b"!"]),
    TOTALS,
    st.sampled_from([0, 0, 1, 2]),
    st.sampled_from([9, 9, 9, 1]),
    st.sampled_from([False, False, False, True]),
)
ACTIONS = st.one_of(
    st.tuples(st.just("identify"), st.sampled_from([0, 1, 65535, 4000]), OPENING),
    st.tuples(st.just("command"), st.sampled_from([1, 1, 1, 1, 0, 2, -1]), OPENING),
    st.tuples(st.just("repeat"), st.integers(0, 3)),
    st.tuples(
        st.just("data"),
        ID,
        st.sampled_from([0, 0, 0, 1, 2, -1]),
        st.sampled_from([0] * 6 + [-1, 1]),
    ),
    st.tuples(st.just("ack"), ID, NEAR, NEAR, st.integers(0, 3), st.sampled_from([0] * 6 + [1])),
    st.tuples(st.just("poll"), ID, st.sampled_from([b"", b"", b"?"])),
    st.tuples(st.just("any"), st.integers(0, 255), ID, st.binary(max_size=8)),
    st.tuples(st.just("advance"), st.integers(0, 2000)),
    st.tuples(st.just("end")),
)


class Host:
    """Turns an action into a frame near what the device expects."""

    def __init__(self, model):
        self.model = model
        self.frame = (4, 4, b"")  # the last command

    def frame_of(self, action):
        kind, *what = action
        return getattr(self, f"_{kind}")(*what)

    def _id(self, off):
        return (self.model.last[1] + off) % 65536

    def _next(self, blocks):
        t = self.model.transfer
        return ((t.next if t else 0) + blocks * BLOCK) % 2**32, t.total if t else 999

    def _identify(self, sequence, payload):
        self.frame = (IDENTIFY, sequence, payload)
        return self.frame

    def _command(self, step, payload):
        self.frame = (3 + len(payload) % 5, self._id(step), payload)
        return self.frame

    def _repeat(self, other_type):
        kind, sequence, payload = self.frame
        return (kind + other_type // 3, sequence, payload)

    def _data(self, off, blocks, more):
        offset, total = self._next(blocks)
        count = max(0, min(BLOCK, total - offset) + more)
        return (DATA, self._id(off), (numbers(offset) + bytes(k % 251 for k in range(count)))[:256])

    def _ack(self, off, blocks, ahead, flags, more):
        there, total = self._next(max(blocks, 0))
        there = min(there, total) if blocks < 4 else there
        limit = min((there + ahead * BLOCK) % 2**32, there + 4 * BLOCK)
        return (ACK, self._id(off), numbers(there, limit) + bytes([flags]) + b"?" * more)

    def _poll(self, off, payload):
        return (POLL, self._id(off), payload)

    def _any(self, type, off, payload):
        return (type, self._id(off), payload)


def frames_of(link, sent):
    events = read(link, b"".join(sent))
    assert all(event["event"] == "frame" for event in events)
    return [(e["type"], e["sequence"], bytes.fromhex(e["payload"])) for e in events]


def apply(link, session, model, host, action):
    """Do it to both; returns what each sends."""
    if action[0] == "advance":
        session.advance(action[1])
        model.advance(action[1])
        return [], []
    if action[0] == "end":
        session.end()
        session.pump()
        return frames_of(link, session.take_sent()), model.end()
    frame = host.frame_of(action)
    session.receive(encode(link, *frame))
    return frames_of(link, session.take_sent()), model.take(*frame)


IDENTIFIED = ("identify", 4000, b"x")


@settings(max_examples=300)
@given(actions=st.lists(ACTIONS, max_size=40), starts=st.sampled_from([[], [IDENTIFIED]]))
def test_a_session_does_what_the_rules_say(link, actions, starts):
    application, model = Application(), DeviceModel()
    session, host = Session(link, application), Host(model)
    for action in [*starts, *actions]:
        session.room = 1 << 20
        sent, expected = apply(link, session, model, host, action)
        assert sent == expected, action
        if model.transfer is not None:
            assert session.next() == model.transfer.next
    assert application.executed == model.executed
    assert application.consumed == model.consumed
    counters = session.counters
    assert (counters["stale"], counters["blocks_again"]) == (model.stale, model.again)


ROOMS = st.tuples(st.just("room"), st.integers(0, 700))


@given(actions=st.lists(st.one_of(ACTIONS, ROOMS), max_size=40))
def test_what_arrives_does_not_depend_on_the_room(link, actions):
    application, model = Application(), DeviceModel()
    session, host = Session(link, application), Host(model)
    for action in [IDENTIFIED, *actions]:
        if action[0] == "room":
            session.room = action[1]
            session.pump()
        else:
            apply(link, session, model, host, action)
    assert application.executed == model.executed
    assert application.consumed == model.consumed
    session.room = 1 << 20
    session.pump()
    assert session.answered()


class Owed:
    """The newest answer of each kind; ACKs of one transfer become one."""

    def __init__(self, model):
        self.model = model
        self.executed = 0
        self.response = self.refusal = self.flags = None

    def add(self, answers):
        if len(self.model.executed) != self.executed:  # which closed the transfer of before
            self.executed, self.flags = len(self.model.executed), None
        for kind, sequence, payload in answers:
            if kind == ACK:
                self.flags = (self.flags or 0) | payload[8]
            elif kind != DATA and payload in (b"\x03\0\0\0", b"\x0b\0\0\0"):
                self.refusal = (kind, sequence, payload)
            elif kind != DATA:
                self.response = (kind, sequence, payload)

    def frames(self):
        t = self.model.transfer
        answers = [answer for answer in (self.response, self.refusal) if answer is not None]
        if self.flags is not None:
            answers += self.model._acknowledge(self.flags)
        if t is not None and t.direction == "out" and not t.ended:
            starts = range(t.next, t.limit, BLOCK)  # none has been sent, so all from next on
            answers += [(DATA, t.id, numbers(at) + block_bytes(at, t.total)) for at in starts]
        return answers


@given(actions=st.lists(ACTIONS, max_size=40))
def test_the_newest_of_what_a_full_line_held_back_is_sent_in_the_end(link, actions):
    model = DeviceModel()
    session, host, owed = Session(link, Application()), Host(model), Owed(model)
    session.room = 0
    for action in [IDENTIFIED, *actions]:
        sent, answers = apply(link, session, model, host, action)
        assert sent == []
        owed.add(answers)
    assert session.answered() == (not owed.frames() or owed.frames()[0][0] == DATA)
    session.room = 1 << 20
    session.pump()
    assert frames_of(link, session.take_sent()) == owed.frames()


def test_a_response_that_is_too_long_is_cut(link):
    """An application's mistake, which must not become one of memory."""

    class Chatty(Application):
        def execute(self, session, command, payload):
            return bytes(MAX_RESPONSE + 1)

    session = Session(link, Chatty())
    session.receive(encode(link, IDENTIFY, 9))
    assert frames_of(link, session.take_sent()) == [(IDENTIFY | RESPONSE, 9, bytes(MAX_RESPONSE))]

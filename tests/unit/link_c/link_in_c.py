"""The firmware's serial link, compiled for this machine and called through ctypes."""

import ctypes
import subprocess
from ctypes import CFUNCTYPE, POINTER, c_bool, c_size_t, c_uint8, c_uint16, c_uint32, c_void_p
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[2] / "mcu_bridge/firmware/link"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion", "-Wdouble-promotion")
FLAGS = ("-std=c99", *WARNINGS, "-ffp-contract=off")
EVENTS = ("nothing", "frame", "wrong_version", "overlong", "malformed", "corrupt")
COUNTERS = (
    *("frames", "overlong", "malformed", "corrupt", "wrong_version", "stale", "blocks_again"),
)
MAX_PAYLOAD, MAX_WIRE, MAX_RESPONSE, BLOCK = 256, 269, 96, 252
IDENTIFY = 0x01


def needs(program):
    """Skip where a compiler is missing; in CI that is a failure."""
    return pytest.mark.needs_package(program, command=program)


def compile_link(compiler, output, *flags, extra=()):
    """Compile the link and `extra` sources with the firmware's warnings into `output`."""
    sources = [*sorted(map(str, SOURCES.glob("*.c"))), *map(str, extra)]
    command = [compiler, *FLAGS, *flags, f"-I{SOURCES}", *sources, "-o", str(output)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return output


def build(folder, *flags, compiler="gcc"):
    """The link as a shared library's path."""
    output = folder / f"link_{compiler}.so"
    extra = [HERE / "sizes.c"]
    return compile_link(compiler, output, "-O2", "-fPIC", "-shared", *flags, extra=extra)


class CFrame(ctypes.Structure):
    """link_frame_t."""

    _fields_ = (
        *(("version", c_uint8), ("type", c_uint8), ("sequence", c_uint16), ("length", c_uint16)),
        ("payload", POINTER(c_uint8)),
    )

    @property
    def bytes(self):
        return ctypes.string_at(self.payload, self.length)


EXECUTE = CFUNCTYPE(
    *(None, c_void_p, c_uint8, POINTER(c_uint8), c_size_t, POINTER(c_uint8), POINTER(c_size_t))
)
CONSUME = CFUNCTYPE(c_bool, c_void_p, c_uint32, POINTER(c_uint8), c_size_t)
PRODUCE = CFUNCTYPE(None, c_void_p, c_uint32, POINTER(c_uint8), c_size_t)
ROOM = CFUNCTYPE(c_size_t, c_void_p)
SEND = CFUNCTYPE(None, c_void_p, POINTER(c_uint8), c_size_t)


class CApplication(ctypes.Structure):
    """link_application_t."""

    _fields_ = (
        *(("context", c_void_p), ("execute", EXECUTE)),
        *(("consume", CONSUME), ("produce", PRODUCE)),
    )


class CLine(ctypes.Structure):
    """link_line_t."""

    _fields_ = (("context", c_void_p), ("room", ROOM), ("send", SEND))


def load(path):
    """The library, its functions declared."""
    c = ctypes.CDLL(str(path))
    declare = {
        "link_reader_bytes": (c_size_t,),
        "link_session_bytes": (c_size_t,),
        "link_crc32": (c_uint32, c_uint32, c_void_p, c_size_t),
        "link_reader_start": (None, c_void_p),
        "link_reader_take": (ctypes.c_int, c_void_p, c_uint8, POINTER(CFrame)),
        "link_encode": (c_size_t, POINTER(CFrame), c_void_p),
        "link_session_start": (None, c_void_p, POINTER(CApplication), POINTER(CLine)),
        "link_session_take": (None, c_void_p, ctypes.c_int, POINTER(CFrame)),
        "link_session_pump": (None, c_void_p),
        "link_session_answered": (c_bool, c_void_p),
        "link_session_complete": (c_bool, c_void_p),
        "link_session_next": (c_uint32, c_void_p),
        "link_session_limit": (c_uint32, c_void_p),
        "link_session_open_in": (None, c_void_p, c_uint32, c_uint32),
        "link_session_open_out": (None, c_void_p, c_uint32),
        "link_session_open_count": (None, c_void_p, c_uint32),
        "link_session_advance": (None, c_void_p, c_uint32),
        "link_session_end": (None, c_void_p),
    }
    for name, (result, *arguments) in declare.items():
        function = getattr(c, name)
        function.restype, function.argtypes = result, arguments
    return c


def encode(c, type, sequence, payload=b""):
    """A frame as the C code writes it; b"" when it refuses to."""
    data = (c_uint8 * max(len(payload), 1)).from_buffer_copy(payload or b"\0")
    frame = CFrame(1, type, sequence, len(payload), data)
    wire = ctypes.create_string_buffer(MAX_WIRE)
    count = c.link_encode(frame, wire)
    return wire.raw[:count]


class Reader:
    """link_reader_t."""

    def __init__(self, c):
        self._c = c
        self._reader = ctypes.create_string_buffer(c.link_reader_bytes())
        self.frame = CFrame()
        c.link_reader_start(self._reader)

    def events(self, data):
        """Yields (number of the event, frame) for each event that `data` brings about."""
        for byte in data:
            event = self._c.link_reader_take(self._reader, byte, self.frame)
            if event:
                yield event, self.frame


def read(c, data):
    """All events of `data`, as the golden vectors write them."""
    return [_described(EVENTS[event], frame) for event, frame in Reader(c).events(data)]


def _described(event, frame):
    if event == "frame":
        payload = frame.bytes.hex()
        return {"event": event, "type": frame.type, "sequence": frame.sequence, "payload": payload}
    if event == "wrong_version":
        return {"event": event, "version": frame.version, "sequence": frame.sequence}
    return {"event": event}


class Session:
    """link_session_t with an application in Python.

    `application` has execute(session, command, payload) -> response, consume(offset, data) -> bool
    and produce(offset, count) -> bytes. Exceptions in them are raised by the call that led there.
    """

    def __init__(self, c, application):
        self._c = c
        self._application = application
        self.room = 1 << 20
        self.sent = []
        self._error = None
        self._session = ctypes.create_string_buffer(c.link_session_bytes())
        self._reader = Reader(c)
        self._callbacks = CApplication(
            None, EXECUTE(self._execute), CONSUME(self._consume), PRODUCE(self._produce)
        )
        self._line = CLine(None, ROOM(lambda _: self.room), SEND(self._send))
        c.link_session_start(self._session, self._callbacks, self._line)

    def _execute(self, context, command, payload, length, response, response_length):
        with self._catching():
            assert length <= MAX_PAYLOAD
            assert response_length[0] == 4
            assert not any(response[:MAX_RESPONSE])
            answer = self._application.execute(self, command, ctypes.string_at(payload, length))
            ctypes.memmove(response, answer, min(len(answer), MAX_RESPONSE))
            response_length[0] = len(answer)

    def _consume(self, context, offset, data, count):
        with self._catching():
            assert 1 <= count <= BLOCK
            return self._application.consume(offset, ctypes.string_at(data, count))
        return True

    def _produce(self, context, offset, data, count):
        with self._catching():
            assert 1 <= count <= BLOCK
            ctypes.memmove(data, self._application.produce(offset, count), count)

    def _send(self, context, data, count):
        with self._catching():
            assert count <= self.room
            self.room -= count
            self.sent.append(ctypes.string_at(data, count))

    def _catching(self):
        return _Caught(self)

    def _done(self):
        if self._error is not None:
            raise self._error

    def receive(self, data):
        """Bytes arrive."""
        for event, frame in self._reader.events(data):
            self._c.link_session_take(self._session, event, frame)
            self._done()

    def pump(self):
        self._c.link_session_pump(self._session)
        self._done()

    def take_sent(self):
        """What was sent since the last call, a list of frames on the wire."""
        sent, self.sent = self.sent, []
        return sent

    @property
    def counters(self):
        values = (c_uint32 * len(COUNTERS)).from_buffer_copy(self._session)
        return dict(zip(COUNTERS, values, strict=True))

    def __getattr__(self, name):
        """The rest of session.h, without its prefix: open_in, end, complete ..."""
        function = getattr(self._c, f"link_session_{name}")
        return lambda *arguments: function(self._session, *arguments)


class _Caught:
    """Keeps the first exception of a callback, which ctypes would only print."""

    def __init__(self, session):
        self._session = session

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if error is not None and self._session._error is None:
            self._session._error = error
        return True

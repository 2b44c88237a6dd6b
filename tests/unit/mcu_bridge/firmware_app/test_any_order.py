"""Whatever is asked in whatever order: the parameters are the ones that should be there, or none.

The model of the board below knows only docs/formats/device.md's table of states; what training
comes to it takes from the host's learner.
"""

import struct
import zlib

import numpy as np
import pytest
from board import BLOCK, ENDED, Board
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from networks import NETWORKS, draw_parameters, draw_samples
from phases import GRADIENT, KEEP_START, on_sensor, plain, result_of, trained

from mcu_bridge.device.messages import (
    CONFIGURE,
    ENCODED,
    READ,
    WRITE,
    Command,
    Region,
    Status,
    evaluation_request,
    run_request,
)
from mcu_bridge.device.update import encode_request
from tinyfleet.codec.values import PRECISIONS
from tinyfleet.exchange import Exchange
from tinyfleet.learner.layer_table import LOSS_CODES, layer_table
from tinyfleet.learner.protocol import Samples
from tinyfleet.strategies.plan import Phase, TrainingPlan, Upload

SPECS = [NETWORKS[name] for name in ("one_dense", "tanh_mlp", "conv_padded")]
NUMBER = struct.Struct("<I")
seeds = st.integers(0, 2**32 - 1)


class Running:
    """A phase on its way: what it comes to after how many steps."""

    def __init__(self, parameters, phase, evaluates, bad_at=None):
        self.before, self.phase, self.evaluates = parameters, phase, evaluates
        self.after = None
        self.bad_at = bad_at  # the step that diverges
        self.total = phase.samples * phase.passes
        self.steps = 0
        self.waits = False  # for samples of the line

    @property
    def updates(self):
        full, rest = divmod(self.steps, self.phase.samples)
        a_pass = -(-self.phase.samples // self.phase.batch_size)
        return full * a_pass + rest // self.phase.batch_size

    def step(self, count):
        """The state after `count` more steps: running, finished or diverged."""
        end = self.total if self.bad_at is None else self.bad_at + 1
        self.steps = min(self.steps + count, end)
        if self.steps < end:
            return "running"
        return "finished" if self.bad_at is None else "diverged"


class AnyOrder(RuleBasedStateMachine):
    """One board, one cautious host that knows what it did."""

    app = None

    @initialize(memory=st.sampled_from([1500, 3000, 8000, 40_000]))
    def reset(self, memory):
        self.board = Board(self.app, memory)
        self.memory = memory
        self.table = self.spec = self.parameters = self.start = self.update = None
        self.options = self.stored = 0
        self.upload = None  # region, whole content, next
        self.phase = None
        self.result = None  # what RESULT says, once no phase runs

    def teardown(self):
        if hasattr(self, "board"):
            self.board.library.board_close(self.board.device)

    # ---- what every command does ----

    def ask(self, command, payload=b""):
        if self.phase and self.phase.waits:
            self.stop_phase(None)
        return self.board.command(command, payload)

    def stop_phase(self, result):
        if not self.phase.evaluates and self.phase.updates == 0:
            self.parameters = self.phase.before
        self.phase, self.result = None, result

    def forget_parameters(self):
        self.parameters = self.start = self.update = self.phase = self.result = None

    def check(self):
        assert self.board.has_parameters == (self.parameters is not None)
        if self.parameters is not None:
            assert self.board.parameters(self.spec.parameter_count) == self.parameters.tobytes()

    # ---- regions ----

    @rule(spec=st.sampled_from(SPECS), blocks=st.integers(0, 3), resume=st.booleans())
    def write_table(self, spec, blocks, resume):
        self.write(Region.TABLE, layer_table(spec), blocks, resume)

    @rule(seed=seeds, blocks=st.integers(0, 9), resume=st.booleans(), same=st.booleans())
    def write_parameters(self, seed, blocks, resume, same):
        spec = self.spec or SPECS[0]
        content = draw_parameters(spec, seed).tobytes()
        if same and self.upload and len(self.upload[1]) == len(content):
            content = self.upload[1]
        self.write(Region.PARAMETERS, content, blocks, resume)

    def write(self, region, content, blocks, resume):
        response = self.ask(Command.WRITE, WRITE.pack(region, resume, len(content)))
        if region == Region.PARAMETERS and self.spec is None:
            assert response[0] == Status.WRONG_STATE
            return self.check()
        resumed = resume and self.upload and self.upload[0] == region
        resumed = resumed and len(self.upload[1]) == len(content)
        start = self.upload[2] if resumed else 0
        before = self.upload[1][:start] if resumed else b""
        assert struct.unpack("<B3xI", response[:8]) == (Status.OK, start)
        self.forget_parameters()
        if region == Region.TABLE:
            self.table = self.spec = None
        self.board.send(content, start, blocks)
        end = min(len(content), start + blocks * BLOCK)
        self.upload = (region, before + content[start:], end)
        return self.check()

    @rule(right=st.booleans())
    def commit(self, right):
        content = self.upload[1] if self.upload else b""
        response = self.ask(Command.COMMIT, NUMBER.pack(zlib.crc32(content) ^ (not right)))
        if self.upload is None:
            assert response[0] == Status.WRONG_STATE
        elif self.upload[2] < len(content):
            assert response[0] == Status.INCOMPLETE
        else:
            assert response[0] == (Status.OK if right else Status.CORRUPT)
            self.take(*self.upload[:2], right)
        self.check()

    def take(self, region, content, right):
        self.upload = None
        if right and region == Region.TABLE:
            self.table = content
        elif right:
            self.parameters = np.frombuffer(content, np.float32)
            self.start = self.parameters if self.options & KEEP_START else None

    @rule(options=st.integers(0, 3), stored=st.sampled_from([0, 3, 6]), bad=st.integers(0, 9))
    def configure(self, options, stored, bad):
        spec = next((spec for spec in SPECS if layer_table(spec) == self.table), SPECS[0])
        layers = len(spec.layers) + (bad == 0)
        request = CONFIGURE.pack(layers, LOSS_CODES[spec.loss], options, stored)
        response = self.ask(Command.CONFIGURE, request)
        self.forget_parameters()
        self.spec = None
        if self.upload and self.upload[0] == Region.PARAMETERS:
            self.upload = None
        if self.table is None:
            assert response[0] == Status.WRONG_STATE
        elif bad == 0:
            assert response[0] == Status.BAD_REQUEST
        else:
            _, needed, available = struct.unpack("<B3xII", response[:12])
            assert available == self.memory
            assert response[0] == (Status.DOES_NOT_FIT if needed > available else Status.OK)
            if response[0] == Status.OK:
                self.spec, self.options, self.stored = spec, options, stored
        self.check()

    @rule(
        spec=st.sampled_from(SPECS), options=st.integers(0, 3), stored=st.integers(0, 6), seed=seeds
    )
    def prepare(self, spec, options, stored, seed):
        """All that a good host does first; by chance alone it would be rare."""
        self.write_table(spec, 9, False)
        self.commit(True)
        self.configure(options, stored, bad=1)
        self.write_parameters(seed, 9, False, False)
        self.commit(True)

    @rule(data=st.data())
    def read(self, data):
        total = 4 * (self.spec or SPECS[0]).parameter_count
        offset = 4 * data.draw(st.integers(0, total // 4 - 1))
        length = data.draw(st.integers(1, total - offset))
        response = self.ask(Command.READ, READ.pack(Region.PARAMETERS, offset, length))
        if self.parameters is None:
            assert response[0] == Status.WRONG_STATE
        else:
            content = self.board.receive(length)
            assert content == self.parameters.tobytes()[offset : offset + length]
        self.check()

    # ---- updates ----

    @rule(
        fraction=st.floats(0, 1, exclude_min=True),
        precision=st.sampled_from(PRECISIONS),
        keeps=st.booleans(),
        round=st.integers(0, 2**40),
    )
    def encode(self, fraction, precision, keeps, round):
        spec = self.spec or SPECS[0]
        layers = [placed.name for placed in spec.placed if placed.start < placed.stop]
        local = tuple(layers[-1:]) if keeps and len(layers) > 1 else ()
        upload = Upload(min(fraction, 0.999), precision)
        exchange = Exchange(spec, TrainingPlan((Phase(1, 1.0),), local, upload))
        request = encode_request(exchange, exchange.noise(1, round, 2))
        response = self.ask(Command.ENCODE, request)
        if self.parameters is None or self.start is None:
            assert response[0] == Status.WRONG_STATE
        else:
            self.update = exchange.encode(self.parameters - self.start, 1, round, 2)
            self.start = None
            assert ENCODED.unpack(response)[:2] == (Status.OK, len(self.update))
        self.check()

    @rule()
    def read_update(self):
        length = len(self.update or b"1234")
        response = self.ask(Command.READ, READ.pack(Region.UPDATE, 0, length))
        assert response[0] == (Status.WRONG_STATE if self.update is None else Status.OK)
        if self.update is not None:
            assert self.board.receive(length) == self.update
        self.check()

    # ---- phases ----

    @rule(
        seed=seeds,
        blocks=st.integers(0, 12),
        batch_size=st.integers(1, 3),
        passes=st.sampled_from([1, 1, 2]),
        source=st.sampled_from(["line", "line", "sensor", "bad line"]),
        evaluates=st.booleans(),
    )
    @precondition(lambda self: self.parameters is not None)
    def run_phase(self, seed, blocks, batch_size, passes, source, evaluates):
        phase = Phase(6, 1e-3) if evaluates else Phase(6, 1e-3, batch_size, passes)
        source = "line" if evaluates and source == "bad line" else source
        samples = self.samples_of(source, seed)
        refused = phase.batch_size > 1 and not self.options & GRADIENT
        refused = refused or (phase.passes > 1 and self.stored < phase.samples)
        response = self.ask(*self.request(phase, samples, source, seed, evaluates))
        if refused:
            assert response[0] == Status.WRONG_STATE
            return self.check()
        assert response[0] == Status.OK
        self.phase = Running(self.parameters, phase, evaluates)
        if not evaluates:
            self.phase.after, _ = trained(self.app, self.spec, self.parameters, samples, phase)
            self.phase.bad_at = 3 if source == "bad line" else None
            self.parameters = None
        if source != "sensor":
            self.send_samples(plain(samples), blocks)
        return self.check()

    @rule(seed=seeds, evaluates=st.booleans())
    @precondition(lambda self: self.parameters is None and not (self.phase and self.phase.waits))
    def run_phase_on_nothing(self, seed, evaluates):
        sensor = (Command.EVALUATE, evaluation_request(6, None, seed))
        train = (Command.TRAIN, on_sensor(self.spec or SPECS[0], Phase(6, 1e-3), seed))
        assert self.ask(*(sensor if evaluates else train))[0] == Status.WRONG_STATE
        self.check()

    def samples_of(self, source, seed):
        if source == "sensor":
            sizes = (self.spec.inputs, self.spec.outputs)
            return Samples(*self.board.sensor_samples(seed, 6, *sizes))
        samples = draw_samples(self.spec, 6, seed)
        if source == "bad line":
            samples.inputs[3, 0] = np.nan
        return samples

    def request(self, phase, samples, source, seed, evaluates):
        encoded = None if source == "sensor" else plain(samples)
        if evaluates:
            return Command.EVALUATE, evaluation_request(6, encoded, seed)
        if encoded is None:
            return Command.TRAIN, on_sensor(self.spec, phase, seed)
        return Command.TRAIN, run_request(self.spec.layer_mask(()), phase, encoded)

    def send_samples(self, encoded, blocks):
        flags = self.board.send(encoded.data, blocks=blocks)
        whole = min(6, blocks * BLOCK // encoded.sample_bytes)
        self.phase.waits = blocks * BLOCK < len(encoded.data)
        diverges = self.phase.bad_at is not None and whole > self.phase.bad_at
        assert bool(flags & ENDED) == diverges
        self.advance(whole)

    def advance(self, steps):
        state = self.phase.step(steps)
        if state == "running":
            return
        if not self.phase.evaluates:
            self.parameters = self.phase.after if state == "finished" else None
        self.result = (Status.OK, int(state == "diverged"))
        self.phase = None

    @rule(turns=st.integers(1, 9))
    def work(self, turns):
        done = self.board.work(turns)
        if self.phase is None or self.phase.waits:
            assert done == 0
        else:
            assert done > 0
            self.advance(done)
        self.check()

    @rule()
    def ask_result(self):
        response = result_of(self.ask(Command.RESULT))
        if self.phase is not None:
            assert (response["status"], response["steps"]) == (Status.INCOMPLETE, self.phase.steps)
            assert response["updates"] == (0 if self.phase.evaluates else self.phase.updates)
        elif self.result is None:
            assert response["status"] == Status.WRONG_STATE
        else:
            assert (response["status"], response["diverged"]) == self.result
        self.check()

    # ---- what a host should not do ----

    @rule(command=st.integers(1, 0x3F), length=st.integers(0, 256), byte=st.integers(0, 255))
    def ask_anything_of_a_wrong_length(self, command, length, byte):
        if length in (0, 4, 8, 12, 40, 48):
            length += 1
        response = self.ask(command, bytes([byte]) * length)
        known = command in set(Command)
        assert response[0] == (Status.BAD_REQUEST if known else Status.UNKNOWN_COMMAND)
        self.check()

    @rule(
        offset=st.integers(0, 2**32 - 1), length=st.integers(0, 252), kind=st.integers(0x40, 0xFF)
    )
    def send_what_nobody_asked_for(self, offset, length, kind):
        off = offset | 1  # never a block's offset, so that a transfer that is open does not move
        self.board.exchange(kind, NUMBER.pack(off) + bytes(length))
        self.check()

    @rule(noise=st.binary(max_size=300))
    def make_noise(self, noise):
        bytes_ = b"\0" + noise + b"\0"
        self.board.library.board_receive(self.board.device, bytes_, len(bytes_))
        self.board.sent()
        self.check()

    @rule()
    def identify_again(self):
        assert self.ask(Command.IDENTIFY, NUMBER.pack(1))[0] == Status.OK
        self.check()


@pytest.mark.slow
def test_no_order_of_commands_shows_wrong_parameters(app):
    AnyOrder.app = app
    AnyOrder.TestCase.settings = settings(max_examples=500, stateful_step_count=40)
    AnyOrder.TestCase("runTest").runTest()

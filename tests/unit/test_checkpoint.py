"""A checkpoint is read back exactly as it was written, or refused in one line."""

import hashlib
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyfleet.checkpoint import (
    Checkpoint,
    decode,
    encode,
    load_checkpoint,
    run_from_document,
    run_to_document,
    save_checkpoint,
)
from tinyfleet.errors import InvalidInput
from tinyfleet.model.layers import Dense, ReLU
from tinyfleet.model.spec import ModelSpec
from tinyfleet.run import RunSpec

MODEL = ModelSpec("tiny", (1, 1, 1), (Dense(2), ReLU(), Dense(1)), "mean_squared_error")
RUN = RunSpec(MODEL, "sine", "tiny_reptile", 10, 3, {}, {"samples": 5, "inner_rate": 0.1})
GOOD = Checkpoint(RUN, "run-1", 4, np.linspace(-1, 1, MODEL.parameter_count, dtype=np.float32))
DATA = encode(GOOD)
MEMORY = (np.arange(7, dtype=np.float32), np.full(7, -0.5, np.float32))
WITH_MEMORY = Checkpoint(RUN, "run-1", 4, GOOD.parameters, MEMORY)
DATA_WITH_MEMORY = encode(WITH_MEMORY)
GOLDEN_WITH_MEMORY = "4a22db40a29076be6ce480068bcccbd020dba54d8b470c2487a5fd646b6a1dde"
GOLDEN = "dac38ec49cab74dd2d94bd400ef6c5499c57fbaa56e9c9a2645156a2cb0a6d96"
HEADER = slice(20, 20 + struct.unpack_from("<I", DATA, 12)[0])


def same(one, two):
    assert one.parameters.tobytes() == two.parameters.tobytes()
    assert (one.run, one.run_id, one.version) == (two.run, two.run_id, two.version)
    assert [v.tobytes() for v in one.memory] == [v.tobytes() for v in two.memory]


def sealed(body):
    """A file whose digest is right, whatever else is wrong."""
    return body + hashlib.sha256(body).digest()


def with_header(change):
    header = json.loads(DATA[HEADER])
    change(header)
    text = json.dumps(header).encode()
    prefix = DATA[:12] + struct.pack("<I", len(text)) + DATA[16:20]
    return sealed(prefix + text + DATA[HEADER.stop : -32])


@given(
    st.integers(0, 10),
    st.text("abc-0/é", max_size=20),
    st.lists(st.floats(width=32), min_size=7, max_size=7),
)
def test_what_is_written_is_read_back(version, run_id, values):
    checkpoint = Checkpoint(RUN, run_id, version, np.array(values, np.float32))
    same(decode(encode(checkpoint)), checkpoint)


def test_memory_is_read_back_with_the_model():
    same(decode(DATA_WITH_MEMORY), WITH_MEMORY)


def test_the_bytes_never_change():
    assert hashlib.sha256(DATA).hexdigest() == GOLDEN
    assert hashlib.sha256(DATA_WITH_MEMORY).hexdigest() == GOLDEN_WITH_MEMORY


def test_the_file_follows_its_specification():
    magic, version, header_bytes, count = struct.unpack_from("<8sIII", DATA)
    assert (magic, version, count) == (b"TINYFLET", 1, 7)
    assert len(DATA) == 20 + header_bytes + 4 * count + 32
    header = json.loads(DATA[HEADER])
    assert header["run"]["strategy_options"] == {"samples": 5, "inner_rate": 0.1}
    values = DATA[HEADER.stop : -32]
    assert header["parameters_sha256"] == hashlib.sha256(values).hexdigest()
    assert np.frombuffer(values, "<f4").tolist() == GOOD.parameters.tolist()
    assert DATA[-32:] == hashlib.sha256(DATA[:-32]).digest()


def test_a_file_with_memory_follows_its_specification():
    magic, version, header_bytes, count, vectors = struct.unpack_from("<8sIIII", DATA_WITH_MEMORY)
    assert (magic, version, count, vectors) == (b"TINYFLET", 2, 7, 2)
    values = DATA_WITH_MEMORY[24 + header_bytes : -32]
    assert DATA_WITH_MEMORY[24 : 24 + header_bytes] == DATA[HEADER]
    floats = np.frombuffer(values, "<f4").reshape(3, 7)
    assert np.array_equal(floats, [GOOD.parameters, *MEMORY])
    assert DATA_WITH_MEMORY[-32:] == hashlib.sha256(DATA_WITH_MEMORY[:-32]).digest()


@pytest.mark.parametrize("vectors", [0, 5, 2**32 - 1])
def test_a_number_of_memory_vectors_out_of_range_is_refused(vectors):
    data = DATA_WITH_MEMORY[:20] + struct.pack("<I", vectors) + DATA_WITH_MEMORY[24:]
    with pytest.raises(InvalidInput, match="sizes are out of range"):
        decode(data)
    with pytest.raises(InvalidInput, match="at most 4 memory vectors"):
        Checkpoint(RUN, "run-1", 4, GOOD.parameters, MEMORY * 3)


@given(st.sampled_from([DATA, DATA_WITH_MEMORY]), st.data())
@settings(max_examples=300)
def test_one_changed_bit_anywhere_is_refused(data, drawn):
    damaged = bytearray(data)
    at, bit = drawn.draw(st.integers(0, len(data) - 1)), drawn.draw(st.integers(0, 7))
    damaged[at] ^= 1 << bit
    with pytest.raises(InvalidInput) as caught:
        decode(bytes(damaged))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", range(len(DATA_WITH_MEMORY)))
def test_a_file_cut_short_is_refused(length):
    for data in (DATA[: min(length, len(DATA) - 1)], DATA_WITH_MEMORY[:length]):
        with pytest.raises(InvalidInput, match=r"cut short|not a TinyFleet checkpoint"):
            decode(data)


@given(st.binary(min_size=1, max_size=40))
def test_bytes_after_the_end_are_refused(extra):
    with pytest.raises(InvalidInput, match="bytes after its end"):
        decode(DATA + extra)


@given(st.binary(max_size=200))
def test_other_files_are_refused(data):
    with pytest.raises(InvalidInput):
        decode(data)


@pytest.mark.parametrize("version", [0, 3, 2**32 - 1])
def test_another_format_version_is_named(version):
    data = sealed(DATA[:8] + struct.pack("<I", version) + DATA[12:-32])
    with pytest.raises(InvalidInput, match=f"format version {version}, this program reads 1 and 2"):
        decode(data)


@pytest.mark.parametrize(("header", "count"), [(2**32 - 1, 7), (300_000, 7), (5, 0), (5, 2**31)])
def test_sizes_out_of_range_are_refused_before_they_are_used(header, count):
    with pytest.raises(InvalidInput, match="sizes are out of range"):
        decode(DATA[:12] + struct.pack("<II", header, count) + DATA[20:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("run_id"), "exactly the keys"),
        (lambda h: h.update(more=1), "exactly the keys"),
        (lambda h: h.update(version=11), "has no version 11"),
        (lambda h: h.update(version=True), "version must be a whole number"),
        (lambda h: h.update(version=1.5), "version must be a whole number"),
        (lambda h: h.update(run_id="x" * 129), "at most 128"),
        (lambda h: h.update(run=3), "a run has exactly the keys"),
        (lambda h: h.update(parameter_count=8), "parameter count"),
        (lambda h: h.update(parameters_sha256="0" * 64), "parameters' hash"),
        (lambda h: h["run"].pop("seed"), "a run has exactly the keys"),
        (lambda h: h["run"].update(strategy="magic"), "unknown strategy"),
        (lambda h: h["run"].update(rounds=0), "rounds must be"),
        (lambda h: h["run"].update(model=[]), "model must be an object"),
        (lambda h: h["run"]["strategy_options"].update(samples=-1), "samples must be"),
        (lambda h: h["run"]["model"]["layers"].pop(), "takes 4 float32 parameters"),
    ],
)
def test_a_header_that_cannot_be_is_refused(change, message):
    with pytest.raises(InvalidInput, match=message):
        decode(with_header(change))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 5000])
def test_a_header_that_is_no_object_is_refused(text):
    prefix = DATA[:12] + struct.pack("<I", len(text)) + DATA[16:20]
    with pytest.raises(InvalidInput, match="header"):
        decode(sealed(prefix + text + DATA[HEADER.stop : -32]))


def test_saving_and_loading(tmp_path):
    path = tmp_path / "new" / "a.tinyfleet"
    save_checkpoint(path, GOOD)
    same(load_checkpoint(path), GOOD)
    assert [file.name for file in path.parent.iterdir()] == ["a.tinyfleet"]


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.tinyfleet"
    save_checkpoint(path, GOOD)

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InvalidInput, match=r"cannot write checkpoint .*No space left on device"):
        save_checkpoint(path, Checkpoint(RUN, "run-2", 5, GOOD.parameters))
    same(load_checkpoint(path), GOOD)
    assert list(tmp_path.iterdir()) == [path]


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "bad.tinyfleet"
    path.write_bytes(DATA[:-1])
    with pytest.raises(InvalidInput, match=r"bad.tinyfleet: checkpoint is cut short: \d+ of \d+"):
        load_checkpoint(path)
    with pytest.raises(InvalidInput, match=r"cannot read checkpoint .*No such file"):
        load_checkpoint(tmp_path / "none")
    with pytest.raises(InvalidInput, match=r"cannot read checkpoint .*Is a directory"):
        load_checkpoint(tmp_path)


def test_a_run_survives_json():
    assert run_from_document(json.loads(json.dumps(run_to_document(RUN)))) == RUN

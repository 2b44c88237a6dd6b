"""A `.tflite` file gives what it was made to give, or is refused in one line; it harms nobody."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_files import INT8, custom_file, dense_file, exponential_file, odd_file

from tinyfleet.errors import InvalidInput
from tinyfleet.litert import probe
from tinyfleet.litert.file import TfliteFile, load_tflite
from tinyfleet.litert.graph import Graph
from tinyfleet.litert.probe import alike, check_tflite
from tinyfleet.litert.runtime import _without_greeting, make_interpreter
from tinyfleet.run_files import MAX_FILE_BYTES

INPUTS = np.random.default_rng(5).uniform(-1, 1, (6, 4)).astype(np.float32)


def graph(content):
    return Graph(TfliteFile(content))


def expected(inputs, seed=1):
    weights = np.random.default_rng(seed).uniform(-1, 1, (3, 4)).astype(np.float32)
    return np.maximum(inputs @ weights.T + 0.125, 0)


def one_line(refusal):
    text = str(refusal.value)
    assert text.isprintable()
    assert 0 < len(text) < 300
    return text


def test_a_float_network_gives_its_outputs():
    outputs = graph(dense_file())(INPUTS)
    assert outputs.dtype == np.float32
    assert outputs == pytest.approx(expected(INPUTS), abs=1e-6)


def test_an_int8_network_is_fed_and_read_in_its_scales():
    outputs = graph(dense_file(kind=INT8))(INPUTS)
    assert outputs == pytest.approx(expected(INPUTS), abs=0.1)  # a scale of 1/16, and of 1/32
    assert np.array_equal(outputs * 16, np.rint(outputs * 16))


def test_an_input_beyond_the_range_of_int8_is_the_nearest_in_it():
    network = graph(dense_file(kind=INT8))
    far, edge = np.full((1, 4), 1e9, np.float32), np.full((1, 4), 127 / 32, np.float32)
    assert np.array_equal(network(far), network(edge))


def test_a_sample_has_its_shape_in_storage_order():
    network = graph(dense_file(shape=(1, 2, 2, 1)))
    assert network.input.shape == (2, 2, 1)
    assert np.array_equal(network(INPUTS), graph(dense_file())(INPUTS))


def test_no_sample_gives_no_output():
    assert graph(dense_file())(INPUTS[:0]).shape == (0, 3)


@pytest.mark.parametrize(
    "inputs", [INPUTS[:, :3], INPUTS[0], INPUTS.astype(np.float64), INPUTS[np.newaxis]]
)
def test_inputs_of_another_shape_or_type_are_refused(inputs):
    with pytest.raises(InvalidInput, match=r"takes \(count, 4\) float32"):
        graph(dense_file())(inputs)


def test_outputs_that_are_not_finite_are_refused():
    with pytest.raises(InvalidInput, match="not finite"):
        graph(exponential_file())(np.full((1, 1), 100, np.float32))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a .tflite"),
        (b"PK\x03\x04 a zip file", "not a .tflite"),
        (dense_file()[:8], "LiteRT"),
        (dense_file()[:200], "LiteRT"),
        (dense_file()[:-100], "LiteRT"),
        (dense_file()[:8] + bytes(64), "LiteRT"),
        (custom_file(), "Mystery"),
        (dense_file(takes=2), "one input to be used here, got 2"),
        (odd_file(), "must be float32, int8 or uint8, got bool"),
        (odd_file(shape=(2, 2)), "must be one sample"),
        (odd_file(shape=()), "must be one sample"),
    ],
)
def test_a_file_of_no_use_is_refused_in_one_line(content, words):
    with pytest.raises(InvalidInput) as refusal:
        graph(content)
    assert words in one_line(refusal)


def test_a_file_that_is_too_large_is_refused_before_it_is_read_whole(tmp_path):
    path = tmp_path / "large.tflite"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES * 16)
    with pytest.raises(InvalidInput, match=r"large.tflite: a .tflite file has at most"):
        load_tflite(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"cannot read .*nothing.tflite"):
        load_tflite(tmp_path / "nothing.tflite")


@pytest.mark.slow
@settings(max_examples=15)
@given(st.lists(st.tuples(st.integers(8, len(dense_file()) - 1), st.integers(0, 255)), max_size=4))
def test_a_damaged_file_runs_or_is_refused_and_harms_nobody(changes):
    content = bytearray(dense_file())
    for at, value in changes:
        content[at] = value
    with contextlib.suppress(InvalidInput):
        outputs = graph(bytes(content))(INPUTS)
        assert np.isfinite(outputs).all()


def child(code):
    """A process that does `code` instead of trying the file."""
    return [sys.executable, "-c", f"import sys, os, time; sys.stdin.buffer.read(); {code}"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("os.abort()", "makes LiteRT crash .*-6"),
        ("time.sleep(60)", "did not run within 2 s"),
        ("print('a reason'); sys.exit(3)", "^a reason$"),
        ("print('two\\nlines'); sys.exit(3)", "makes LiteRT crash"),
    ],
)
def test_what_ends_the_child_ends_only_the_child(monkeypatch, code, words):
    monkeypatch.setattr(probe, "_good", {})
    file = TfliteFile(dense_file())
    with pytest.raises(InvalidInput, match=words):
        check_tflite(file, child(code), limit_s=2)
    check_tflite(file)  # what was the machine's fault is not held against the file


def test_a_child_that_cannot_be_started_is_said():
    with pytest.raises(InvalidInput, match="could not be tried"):
        check_tflite(TfliteFile(dense_file(seed=98)), ["/nothing/here"])


def test_a_good_file_is_tried_once():
    file = TfliteFile(dense_file(seed=97))
    check_tflite(file)
    check_tflite(file, child("os.abort()"))


def test_where_xnnpack_is_wrong_plain_kernels_compute(monkeypatch, caplog):
    """Found on aarch64 under QEMU 7.2, with some int8 files."""
    monkeypatch.setattr(probe, "_good", {})
    made = []
    monkeypatch.setattr(
        "tinyfleet.litert.graph.make_interpreter",
        lambda file, plain: made.append(plain) or make_interpreter(file, plain),
    )
    file = TfliteFile(dense_file(seed=96))
    assert check_tflite(file, child("print('plain')"))
    assert "LiteRT's own kernels do it instead" in caplog.text
    outputs = Graph(file)(INPUTS)
    monkeypatch.setattr(probe, "_good", {})
    np.testing.assert_allclose(outputs, Graph(file)(INPUTS), rtol=1e-5)
    assert made == [True, False]


def test_rounding_is_alike_and_a_wrong_kernel_is_not():
    right = [np.array([[-4.0, 41, 17], [10, -4, -1], [43, 127, 12]])]
    assert alike([right[0] + np.array([1, 0, -2])], right)
    assert not alike([np.array([[127.0, -34, 8], [127, -34, 5], [127, -34, -13]])], right)
    assert not alike([np.full((3, 3), np.nan)], right)
    assert alike([np.full((3, 3), np.nan)], [np.full((3, 3), np.nan)])  # refused by who uses it


def test_only_the_last_good_files_are_remembered(monkeypatch):
    monkeypatch.setattr(probe, "_good", {f"{number:064x}": False for number in range(64)})
    check_tflite(TfliteFile(dense_file()), child("sys.exit(0)"))
    assert len(probe._good) == 64


def test_what_others_say_meanwhile_is_not_lost(capfd):
    with _without_greeting():
        os.write(2, b"before\nINFO: Created TensorFlow Lite XNNPACK delegate for CPU.\nafter\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "before\nafter\nlater\n"


def test_nothing_is_written_beside_the_answer(tmp_path):
    path = tmp_path / "a.tflite"
    path.write_bytes(dense_file())
    code = (
        "import sys, pathlib, numpy\n"
        "from tinyfleet.litert.file import load_tflite\n"
        "from tinyfleet.litert.graph import Graph\n"
        "Graph(load_tflite(pathlib.Path(sys.argv[1])))(numpy.zeros((1, 4), numpy.float32))"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")

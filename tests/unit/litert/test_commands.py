"""`simulate` and `evaluate` with an extractor, as a script sees them."""

import json

import pytest
from tflite_files import dense_file

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.program import run

QUICK = ["--rounds", "20", "--set", "samples=16", "--test-tasks", "20"]


@pytest.fixture
def body(tmp_path):
    path = tmp_path / "body.tflite"
    path.write_bytes(dense_file(inputs=1, outputs=16))
    return path


def document(capsys, *words):
    assert run([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *words):
    assert run(list(words)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_only_the_head_is_learned_and_sent(capsys, body):
    result = document(capsys, "simulate", "--extractor", str(body), *QUICK)
    assert result["model"] == {"name": "linear", "parameters": 17, "bytes": 68}
    assert result["bytes_up"] == 20 * 68
    named = document(capsys, "simulate", "--extractor", str(body), "--model", "mlp_32", *QUICK)
    assert named["model"]["parameters"] == 16 * 32 + 32 + 32 * 32 + 32 + 32 + 1


def test_a_checkpoint_names_its_extractor_and_evaluate_wants_that_one(capsys, body, tmp_path):
    words = ["simulate", "--extractor", str(body), "--out", str(tmp_path / "out"), *QUICK]
    trained = document(capsys, *words)
    file = tmp_path / "out" / "checkpoint.tinyfleet"
    extractor = load_checkpoint(file).run.extractor
    assert (extractor.size, extractor.features) == (len(body.read_bytes()), 16)
    words = ["evaluate", str(file), "--tasks", "20"]
    tested = document(capsys, *words, "--extractor", str(body))
    assert tested["after"] == trained["after"]
    assert f"SHA-256 {extractor.sha256[:12]}" in refused(capsys, *words)
    other = tmp_path / "other.tflite"
    other.write_bytes(dense_file(inputs=1, outputs=16, seed=2))
    assert "is not the extractor" in refused(capsys, *words, "--extractor", str(other))


def test_a_checkpoint_without_one_is_tested_without_one(capsys, body, tmp_path):
    document(capsys, "simulate", "--model", "mlp_32", "--out", str(tmp_path), *QUICK)
    words = ["evaluate", str(tmp_path / "checkpoint.tinyfleet"), "--extractor", str(body)]
    assert "leave --extractor out" in refused(capsys, *words)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"nothing", "not a .tflite"), (dense_file(inputs=2), "takes samples of 2, the task gives 1")],
)
def test_a_file_of_no_use_is_one_line(capsys, tmp_path, content, words):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    assert words in refused(capsys, "simulate", "--extractor", str(path), *QUICK)


def test_without_a_runtime_the_remedy_is_named(capsys, body, monkeypatch):
    monkeypatch.setattr("tinyfleet.litert.runtime._MODULES", ())
    assert "pip install 'tinyfleet[litert]'" in refused(
        capsys, "simulate", "--extractor", str(body), *QUICK
    )

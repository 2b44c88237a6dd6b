"""`simulate` and `evaluate` with a file that trains itself, as a script sees them."""

import json

import pytest
from trainable_files import CLASSIFIER, SINE, edited, leave_out, rename

from tinyfleet.checkpoint import load_checkpoint
from tinyfleet.cli.program import run

QUICK = ["--rounds", "20", "--set", "samples=16", "--test-tasks", "20"]


@pytest.fixture
def sine(tmp_path):
    path = tmp_path / "sine.tflite"
    path.write_bytes(SINE.content)
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


def test_a_file_learns_and_nobody_claims_to_know_what_that_costs(capsys, sine):
    words = ["--rounds", "300", "--test-tasks", "40"]
    result = document(capsys, "simulate", "--trainable", str(sine), *words)
    assert result["model"] == {"name": "sine", "parameters": 321, "bytes": 1284}
    assert result["after"]["loss"] < result["before"]["loss"] * 0.75
    assert result["energy_estimates"] == []


def test_only_what_changed_most_is_sent_and_local_tensors_are_not(capsys, sine):
    words = ["simulate", "--trainable", str(sine), "--strategy", "tiny_meta_fed", *QUICK]
    result = document(capsys, *words, "--set", "fraction=0.1", "--set", "local_layers=2")
    shared = 321 - 17  # dense_2_bias and dense_2_kernel stay
    assert result["bytes_down"] == 20 * 4 * shared
    assert 0 < result["bytes_up"] < 20 * 4 * shared * 0.2


def test_a_checkpoint_names_its_file_and_evaluate_wants_that_one(capsys, sine, tmp_path):
    words = ["simulate", "--trainable", str(sine), "--out", str(tmp_path / "out"), *QUICK]
    trained = document(capsys, *words)
    file = tmp_path / "out" / "checkpoint.tinyfleet"
    assert load_checkpoint(file).run.trainable.sha256 == SINE.sha256
    words = ["evaluate", str(file), "--tasks", "20"]
    assert document(capsys, *words, "--trainable", str(sine))["after"] == trained["after"]
    assert f"the .tflite file {SINE.sha256[:12]}" in refused(capsys, *words)
    other = tmp_path / "other.tflite"
    other.write_bytes(CLASSIFIER.content)
    assert "the run's is" in refused(capsys, *words, "--trainable", str(other))


def test_a_run_goes_on_from_its_checkpoint(capsys, sine, tmp_path):
    words = ["simulate", "--trainable", str(sine), *QUICK, "--out", str(tmp_path)]
    first = document(capsys, *words)
    again = document(capsys, *words, "--resume", str(tmp_path / "checkpoint.tinyfleet"))
    assert again["parameters_sha256"] == first["parameters_sha256"]


def test_a_model_that_is_no_file_is_tested_without_one(capsys, sine, tmp_path):
    document(capsys, "simulate", "--model", "mlp_32", "--out", str(tmp_path), *QUICK)
    words = ["evaluate", str(tmp_path / "checkpoint.tinyfleet"), "--trainable", str(sine)]
    assert "leave out --trainable" in refused(capsys, *words)


def test_signatures_may_have_other_names(capsys, tmp_path):
    path = tmp_path / "fit.tflite"
    path.write_bytes(edited(lambda model: rename(model, "train", "fit")).content)
    words = ["simulate", "--trainable", str(path), *QUICK]
    assert "has no signature 'train', it has: fit, get_weights" in refused(capsys, *words)
    assert document(capsys, *words, "--signature", "train=fit")["model"]["parameters"] == 321


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--model", "mlp_32"], "give either --model or --trainable"),
        (["--extractor", "body.tflite"], "no --extractor"),
        (["--signature", "trian=fit"], "did you mean 'train'"),
        (["--set", "batch_size=4"], "trains on 1 samples at a time, the plan asks for 4 of 16"),
    ],
)
def test_what_does_not_go_together_is_one_line(capsys, sine, words, reason):
    strategy = ["--strategy", "reptile"] if "--set" in words else []
    line = refused(capsys, "simulate", "--trainable", str(sine), *strategy, *QUICK, *words)
    assert reason in line


def test_signature_names_without_a_file_are_refused(capsys):
    assert "give it with --trainable" in refused(capsys, "simulate", "--signature", "train=fit")


@pytest.mark.parametrize(
    "content", [b"nothing", SINE.content[:2000], edited(lambda m: leave_out(m, "infer")).content]
)
def test_a_file_of_no_use_is_one_line(capsys, tmp_path, content):
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    line = refused(capsys, "simulate", "--trainable", str(path), *QUICK)
    assert str(path) in line


def test_without_a_runtime_the_remedy_is_named(capsys, sine, monkeypatch):
    monkeypatch.setattr("tinyfleet.litert.runtime._MODULES", ())
    line = refused(capsys, "simulate", "--trainable", str(sine), *QUICK)
    assert "pip install 'tinyfleet[litert]'" in line

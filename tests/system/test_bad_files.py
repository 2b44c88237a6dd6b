"""Files that are damaged, hostile or cannot be written: one clear line, nothing half done."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from refusals import INVALID, NOBODY, limit_files, refused, service


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """The bytes of a checkpoint that the command wrote."""
    out = tmp_path_factory.mktemp("checkpoint")
    words = ["simulate", "--rounds", "5", "--model", "mlp_32", "--test-tasks", "5", "--out", out]
    command = [sys.executable, "-m", "tinyfleet.cli", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    return (out / "checkpoint.tinyfleet").read_bytes()


@pytest.mark.parametrize("at", [3, 9, 14, 40, 700, -20], ids=lambda at: f"byte {at}")
def test_a_checkpoint_with_one_bit_changed_is_refused(tinyfleet, tmp_path, checkpoint, at):
    damaged = bytearray(checkpoint)
    damaged[at] ^= 1
    (tmp_path / "x.tinyfleet").write_bytes(damaged)
    refused(tinyfleet("evaluate", "x.tinyfleet"), INVALID, "x.tinyfleet: ")


@pytest.mark.parametrize("size", [0, 10, 300, -1])
def test_a_checkpoint_cut_short_is_refused(tinyfleet, tmp_path, checkpoint, size):
    (tmp_path / "x.tinyfleet").write_bytes(checkpoint[:size])
    refused(tinyfleet("evaluate", "x.tinyfleet"), INVALID, "x.tinyfleet: ")


def test_a_checkpoint_for_another_task_is_refused(tinyfleet, tmp_path, checkpoint):
    (tmp_path / "x.tinyfleet").write_bytes(checkpoint)
    done = tinyfleet("evaluate", "x.tinyfleet", "--task", "omniglot", "--data", "x.tinyfleet")
    refused(done, INVALID, "Omniglot data x.tinyfleet")


def test_an_npz_with_pickles_is_refused_unopened(tinyfleet, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    images = np.array([Bomb()], dtype=object)
    np.savez(tmp_path / "x.npz", images=images, inputs=images, targets=images)
    done = tinyfleet("simulate", "--task", "omniglot", "--data", "x.npz")
    refused(done, INVALID, "cannot read Omniglot data x.npz")
    own = service("agent", "--own-data", tmp_path / "x.npz", "--coordinator", NOBODY)
    refused(own, INVALID, "own data")
    assert not (tmp_path / "exploded").exists()


GOOD_MODEL = 'name = "m"\ninput_shape = [1]\nloss = "mean_squared_error"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "m.toml is not valid TOML"),
        ('nam = "m"', "unknown key of a model 'nam': did you mean 'name'?"),
        ('name = "m"', "m.toml: a model needs the key 'input_shape'"),
        (GOOD_MODEL + 'layers = [{ kind = "dens", units = 1 }]', "'dens': did you mean 'dense'?"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", unit = 1 }]', "did you mean 'units'?"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", units = 0 }]', "units must be 1 to"),
        (GOOD_MODEL + 'layers = [{ kind = "dense", units = 3 }]', "3 outputs"),
        (GOOD_MODEL + "layers = []", "m.toml: "),
        ("x" * 70_000, "at most 65536 bytes"),
    ],
)
def test_a_model_file_that_cannot_work_is_one_line(tinyfleet, tmp_path, text, message):
    (tmp_path / "m.toml").write_text(text)
    refused(tinyfleet("simulate", "--rounds", 2, "--model", "m.toml"), INVALID, message)


def test_a_result_folder_that_cannot_be_is_refused_before_the_work(tinyfleet, tmp_path):
    (tmp_path / "file").write_text("kept")
    refused(tinyfleet("simulate", "--out", "file"), INVALID, "cannot make folder file")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_full_disk_leaves_no_part_of_a_result(tmp_path):
    """A limit on the size of files stands for the disk: writing fails, whoever runs the test."""
    words = ["--rounds", "5", "--model", "mlp_64", "--test-tasks", "5", "--out", "out"]
    done = subprocess.run(
        [sys.executable, "-m", "tinyfleet.cli", "simulate", *words, "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=lambda: limit_files(8_000),
    )
    refused(done, INVALID, "cannot write checkpoint out/", "File too large")
    assert list((tmp_path / "out").iterdir()) == []

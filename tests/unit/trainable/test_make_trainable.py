"""The script of the guide makes the files that all these tests use, wherever TensorFlow is."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from trainable_files import FOLDER, MADE_BY

from tinyfleet.litert.file import TfliteFile, load_tflite
from tinyfleet.litert.learner import open_trainable
from tinyfleet.model.trainable import SignatureNames

ROOT = Path(__file__).resolve().parents[3]
PYTHON = ROOT / ".venv-tf/bin/python"


def after_some_steps(file: TfliteFile) -> bytes:
    signatures = open_trainable(file, SignatureNames())
    layout, random = signatures.layout, np.random.default_rng(1)
    for _ in range(20):
        x = random.normal(size=layout.inputs).astype(np.float32)
        y = random.uniform(0, 0.5, layout.targets).astype(np.float32)
        signatures.train(x, y, np.float32(0.05))
    return signatures.weights().tobytes()


@pytest.mark.slow
@pytest.mark.needs_package("TensorFlow, by `make setup-tf`,", command=str(PYTHON))
@pytest.mark.parametrize("name", MADE_BY)
def test_the_guides_script_makes_a_file_that_trains_like_this_one(name: str, tmp_path: Path):
    """To the bit. The files may differ: another TensorFlow may arrange them anew."""
    script = ROOT / "docs/guides/make_trainable_tflite.py"
    command = [PYTHON, script, *MADE_BY[name].split(), "--out", tmp_path / name]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    made, kept = load_tflite(tmp_path / name), load_tflite(FOLDER / name)
    layouts = [open_trainable(file, SignatureNames()).layout for file in (made, kept)]
    assert layouts[0] == layouts[1]
    assert after_some_steps(made) == after_some_steps(kept)

"""Make the extractor of experiments/keywords_extractor.toml: a body trained in one place.

    python benchmarks/make_keywords_extractor.py --data speech_commands.npz --out out/extractor

A classifier of the training words, each forwards and backwards (24 classes, none of them a digit),
is trained by online SGD like the baseline `transfer`; its head is cut off. What is left gives 64
features, as `body.tflite` (float32) and `body_int8.tflite`. 800 rounds of 80 samples at rate 0.02
were chosen on held-out words. Takes about half a minute.

`homes.npz` is a table of the digits, words that the extractor has never heard, in ten homes of
eleven speakers each: labels mean the same everywhere, and every third home is tested on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinyfleet.comparison.baselines import pretrain, pretraining_run
from tinyfleet.learner import make_learner
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.model.spec import ModelSpec, Parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run
from tinyfleet.tasks import make_task
from tinyfleet.tasks.keywords import DIGITS
from tinyfleet.tasks.keywords_data import read_clips
from tinyfleet.tasks.mfcc import COEFFICIENTS, FRAMES, STEPS

SEED, ROUNDS, RATE = 11, 800, 0.02
CALIBRATION = 200  # samples of training words
HOMES = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    flags = parser.parse_args()
    task = make_task("keywords", {"ways": 4}, flags.data)
    run = pretraining_run(
        make_run(task, "tiny_reptile", ROUNDS, SEED, None, {"inner_rate": RATE}), task
    )
    start = run.initial_parameters()
    trained = pretrain(run, task, make_learner(run.model), lambda report: None, start, 0)
    body, parameters = without_head(run.model, trained)
    stream = RandomStream(SEED, Purpose.TRAINING_TASK, ROUNDS, 0)
    samples = task.training_samples(stream, CALIBRATION).inputs
    flags.out.mkdir(parents=True, exist_ok=True)
    for name, file in written(body, parameters, samples):
        (flags.out / name).write_bytes(file.content)
        print(f"{flags.out / name}: {len(file.content):,} bytes, SHA-256 {file.sha256}")
    np.savez(flags.out / "homes.npz", **homes(flags.data))


def homes(data: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Inputs, labels and groups of the clips of digits, as the task `table` takes them."""
    clips = [clip for clip in read_clips(data) if clip.word in DIGITS]
    speakers = sorted({clip.speaker for clip in clips})
    home = {name: number % HOMES for number, name in enumerate(speakers)}
    inputs = np.stack([clip.features for clip in clips]).astype(np.float32) / STEPS
    return {
        "inputs": inputs.reshape(len(clips), FRAMES, COEFFICIENTS),
        "labels": np.array([clip.word for clip in clips]),
        "groups": np.array([home[clip.speaker] for clip in clips]),
        "evaluation": np.arange(2, HOMES, 3),
    }


def written(
    body: ModelSpec, parameters: Parameters, samples: Floats
) -> Iterator[tuple[str, TfliteFile]]:
    """The body in float32, and in int8 with the ranges that it reaches on `samples`."""
    from tinyfleet.export.quantize import int8_tflite
    from tinyfleet.export.tflite import float_tflite

    yield "body.tflite", float_tflite(body, parameters)
    yield "body_int8.tflite", int8_tflite(body, parameters, samples)


def without_head(spec: ModelSpec, parameters: Parameters) -> tuple[ModelSpec, Parameters]:
    """All before the last layer with parameters, and the parameters of that."""
    head = [placed for placed in spec.placed if placed.trainable][-1]
    layers = tuple(placed.layer for placed in spec.placed[: spec.placed.index(head)])
    body = ModelSpec(f"{spec.name}-body", spec.input_shape, layers, spec.loss)
    return body, np.ascontiguousarray(parameters[: body.parameter_count])


if __name__ == "__main__":
    main()

"""Each built-in model as it is exported: bytes, microseconds a prediction, and what int8 loses.

    python benchmarks/bench_export.py [--json] [--repeats N] [--omniglot FILE] [--keywords FILE]

Size and latency: 28x28x1 to 5 classes, the seeded initialization, one sample at a time, called from
Python on one thread: the native learner, LiteRT in float32 and int8, and the C header compiled with
-O3. Before anything is timed, float32 must agree with the learner within 1e-5, the header in every
bit, and int8 within 5 % of the outputs' spread. LiteRT gets each sample in the type of its input.
The contenders take turns; a time is the median over the turns, each the mean of 20 calls, with the
quartiles.

Accuracy, where the data is given: each model is trained by TinyReptile for --rounds rounds, then
adapted to --tasks unseen problems as the task recommends; each adapted model is tested in float32
(the learner) and in int8 (LiteRT) on the same query samples. The drop is the mean over the problems
with its 95 % interval. With --rounds 3000 both take about fifteen minutes.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine

from tinyfleet.export.c_check import find_compiler
from tinyfleet.export.c_header import c_header
from tinyfleet.export.check import check_same
from tinyfleet.export.quality import measure
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.rehearsal import make_rehearsal
from tinyfleet.export.running import layout_of, run_written
from tinyfleet.export.samples import task_inputs
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner import make_learner
from tinyfleet.learner.native import NativeLearner
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.runtime import make_interpreter
from tinyfleet.model import BUILTIN_MODELS, ModelSpec, builtin_model, initial_parameters
from tinyfleet.randomness import Purpose, RandomStream
from tinyfleet.run import make_run
from tinyfleet.simulation import simulate
from tinyfleet.tasks import Task, make_task

SEED = 1
CALLS = 20  # of one timing
Json = dict[str, Any]
Predict = Callable[[Any], Any]


class Header:
    """A C header as a library of this process."""

    def __init__(self, text: str, outputs: int) -> None:
        self._outputs = outputs
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "model.h").write_text(text)
            source = '#include "model.h"\nvoid run(const float *x, float *y);\n'
            source += "void run(const float *x, float *y) { model_predict(x, y); }\n"
            (Path(folder) / "model.c").write_text(source)
            words = ["-std=c99", "-O3", "-ffp-contract=off", "-shared", "-fPIC"]
            command = [find_compiler(), *words, "-o", "model.so", "model.c"]
            subprocess.run(command, cwd=folder, check=True)
            self._run = ctypes.CDLL(str(Path(folder) / "model.so")).run
        self._run.argtypes = (ctypes.c_void_p, ctypes.c_void_p)

    def __call__(self, inputs: Floats) -> Floats:
        outputs = np.empty((len(inputs), self._outputs), np.float32)
        for x, y in zip(inputs, outputs, strict=True):
            self._run(x.ctypes.data, y.ctypes.data)
        return outputs


class Interpreted:
    """A `.tflite` on samples that are of its input's type already."""

    def __init__(self, file: TfliteFile) -> None:
        self._interpreter = make_interpreter(file)
        self.entry = layout_of(self._interpreter.get_input_details())
        self.leave = layout_of(self._interpreter.get_output_details())

    def __call__(self, sample: Any) -> Any:
        self._interpreter.set_tensor(self.entry.index, sample)
        self._interpreter.invoke()
        return self._interpreter.get_tensor(self.leave.index)


def contenders(spec: ModelSpec, inputs: Floats) -> tuple[dict[str, Predict], dict[str, int]]:
    """Who predicts, and the bytes of each; they agree."""
    parameters = initial_parameters(spec, SEED)
    learner = NativeLearner(spec)
    expected = learner.predict(parameters, inputs)
    files = {
        "LiteRT float32": float_tflite(spec, parameters),
        "LiteRT int8": int8_tflite(spec, parameters, inputs),
    }
    found: dict[str, Predict] = {
        "native learner": lambda rows: learner.predict(parameters, rows),
        "C header": Header(c_header(spec, parameters, "model"), spec.outputs),
        **{name: Interpreted(file) for name, file in files.items()},
    }
    check_same(run_written(files["LiteRT float32"], inputs), expected)
    np.testing.assert_array_equal(found["C header"](inputs), expected)
    measure(spec_of_values(spec), run_written(files["LiteRT int8"], inputs), expected, None).check(
        0.0, 5.0
    )
    sizes = {"native learner": spec.parameter_bytes, "C header": spec.parameter_bytes}
    return found, sizes | {name: len(file.content) for name, file in files.items()}


def spec_of_values(spec: ModelSpec) -> ModelSpec:
    """The same network as a regression: its outputs, not its answers, are compared."""
    return ModelSpec(spec.name, spec.input_shape, spec.layers, "mean_squared_error")


def rows_for(predict: Predict, inputs: Floats) -> list[Any]:
    """Each sample as the contender takes it."""
    if isinstance(predict, Interpreted):
        return [predict.entry.encode(sample) for sample in inputs]
    return [inputs[i : i + 1] for i in range(len(inputs))]


def timed(found: dict[str, Predict], inputs: Floats, repeats: int) -> dict[str, list[float]]:
    """Lower quartile, median and upper quartile of microseconds a prediction."""
    rows = {name: rows_for(predict, inputs[:CALLS]) for name, predict in found.items()}
    times: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(repeats):
        for name, predict in found.items():
            start = time.perf_counter()
            for row in rows[name]:
                predict(row)
            times[name].append((time.perf_counter() - start) / CALLS * 1e6)
    return {name: np.quantile(each, (0.25, 0.5, 0.75)).tolist() for name, each in times.items()}


def latency(name: str, repeats: int) -> Json:
    spec = builtin_model(name, (28, 28, 1), 5, "softmax_cross_entropy")
    draws = RandomStream(SEED, Purpose.EVALUATION_TASK).uniform(100 * spec.inputs)
    inputs = draws.astype(np.float32).reshape(100, spec.inputs)
    found, sizes = contenders(spec, inputs)
    return {"bytes": sizes, "us": timed(found, inputs, repeats)}


def accuracy(task: Task, name: str, rounds: int, tasks: int) -> Json:
    """Percent in float32, and points that int8 loses, with the half of its 95 % interval."""
    run = make_run(task, "tiny_reptile", rounds, SEED, name)
    learner = make_learner(run.model)
    trained = simulate(run, task, learner).parameters
    calibration = task_inputs(run, task)
    pairs = []
    for said, expected, targets in make_rehearsal(task, trained, tasks).answers(
        learner, calibration
    ):
        right = targets.argmax(axis=1)
        pairs.append([np.mean(each.argmax(axis=1) == right) for each in (expected, said)])
    scores = 100.0 * np.array(pairs)
    drops = scores[:, 0] - scores[:, 1]
    half = 1.96 * float(drops.std(ddof=1)) / np.sqrt(len(drops))
    exact, whole = scores.mean(axis=0).tolist()
    return {"float32": exact, "int8": whole, "drop": float(drops.mean()), "ci95": half}


def show_latency(rows: dict[str, Json]) -> None:
    print("model     contender           bytes   us a prediction (quartiles)")
    for model, row in rows.items():
        for name, (low, median, high) in row["us"].items():
            print(
                f"{model:9} {name:15} {row['bytes'][name]:9,} {median:8.1f} ({low:.1f}, {high:.1f})"
            )


def show_accuracy(task: str, model: str, row: Json) -> None:
    print(
        f"{task:9} {model:9} float32 {row['float32']:6.2f} %  int8 {row['int8']:6.2f} %  "
        f"drop {row['drop']:5.2f} ± {row['ci95']:.2f} points",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one object instead of tables")
    parser.add_argument("--repeats", type=int, default=51, help="timings of each [default: 51]")
    parser.add_argument("--omniglot", type=Path, metavar="FILE", help="data to measure accuracy on")
    parser.add_argument("--keywords", type=Path, metavar="FILE", help="likewise")
    parser.add_argument("--rounds", type=int, default=3000, help="of training [default: 3000]")
    parser.add_argument("--tasks", type=int, default=200, help="to adapt to [default: 200]")
    options = parser.parse_args()
    machine = describe_machine()
    found: Json = {"latency": {name: latency(name, options.repeats) for name in BUILTIN_MODELS}}
    if not options.json:
        show_latency(found["latency"])
    for kind in ("omniglot", "keywords"):
        if (data := getattr(options, kind)) is None:
            continue
        task, found[kind] = make_task(kind, {}, data), {}
        for model in BUILTIN_MODELS:
            found[kind][model] = accuracy(task, model, options.rounds, options.tasks)
            if not options.json:
                show_accuracy(kind, model, found[kind][model])
    words = {name: getattr(options, name) for name in ("repeats", "rounds", "tasks")}
    if options.json:
        print(json.dumps({"machine": machine, "seed": SEED, **words, **found}))
        return
    print(f"\nseed {SEED}, {words}; {machine}")


if __name__ == "__main__":
    main()

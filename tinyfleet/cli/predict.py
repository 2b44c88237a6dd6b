"""`tinyfleet predict`: asks an agent's live model."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from tinyfleet.cli.console import examples, json_option, print_json, print_table
from tinyfleet.cli.fleet_options import ago, message_document, tls_option
from tinyfleet.cli.options import checked_address
from tinyfleet.errors import InvalidInput
from tinyfleet.files import write_whole
from tinyfleet.learner.protocol import Floats
from tinyfleet.predictions import LiveModel, Prediction, samples_at_once
from tinyfleet.tasks.npz import read_array, reading
from tinyfleet.v1 import model_pb2, prediction_pb2

MAX_BYTES = 256 * 1024 * 1024  # our choice: of the inputs in a file
REMEDY = "give an .npz with the array inputs, a sample each row"
MAX_VALUES_SHOWN = 4


@click.command(
    "predict",
    epilog=examples(
        "tinyfleet predict 127.0.0.1:7320                      what the model is",
        "tinyfleet predict 127.0.0.1:7320 --inputs new.npz     what it says of these samples",
    ),
)
@click.argument("address", callback=checked_address, metavar="HOST:PORT")
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An .npz with the array `inputs`, a sample each row; without it the model is described.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write an .npz with `outputs`, and for each sample the `round` of the model.",
)
@click.option(
    "--agent",
    default="",
    metavar="NAME",
    show_default=False,
    help="With --tls: take no other agent's answer. [default: any of the site]",
)
@tls_option
@json_option
def command(
    address: str,
    inputs: Path | None,
    out: Path | None,
    agent: str,
    tls: Path | None,
    as_json: bool,
) -> None:
    """Ask the agent at HOST:PORT, its --predict, what the model says that it has adapted.

    A classifier's outputs are logits; the probabilities are their softmax.
    """
    if out is not None and inputs is None:
        raise InvalidInput("there is nothing to write without samples: give --inputs FILE")
    with LiveModel(address, tls, agent) as model:
        about = model.describe()
        if inputs is None:
            _print_model(about, as_json)
            return
        predictions = list(_predict(model, _read(inputs, about)))
    if out is not None:
        _write(out, predictions)
    if as_json:
        print_json(_document(about, predictions))
    else:
        _print_predictions(about, predictions)


def _read(path: Path, about: prediction_pb2.GetModelResponse) -> Floats:
    """`(samples, inputs) float32`; raises InvalidInput."""
    with reading("samples", path, REMEDY), zipfile.ZipFile(path) as archive:
        array = read_array(archive, "inputs", MAX_BYTES)
        if array.ndim < 1 or array.dtype.kind not in "fiub" or array.size == 0:
            raise InvalidInput(
                f"inputs must be real numbers, got {array.dtype} {array.shape}; {REMEDY}"
            )
    shape = about.input_height, about.input_width, about.input_channels
    rows = array.reshape(len(array), -1)
    if rows.shape[1] != shape[0] * shape[1] * shape[2]:
        raise InvalidInput(
            f"{path} has {rows.shape[1]} values a sample, the model takes "
            f"{'x'.join(map(str, shape))}"
        )
    with np.errstate(over="ignore"):  # the agent refuses what is not finite, and says which sample
        return np.ascontiguousarray(rows, np.float32)


def _predict(model: LiveModel, rows: Floats) -> Iterator[Prediction]:
    at_once = samples_at_once(rows.shape[1])
    for begin in range(0, len(rows), at_once):
        try:
            yield model.predict(rows[begin : begin + at_once])
        except InvalidInput as error:
            where = f"samples from {begin} on: " if begin else ""
            raise InvalidInput(f"{where}{error}") from None


def _write(path: Path, predictions: list[Prediction]) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, outputs=_outputs(predictions), round=_rounds(predictions))
    try:
        write_whole(path, buffer.getvalue())
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}") from None


def _outputs(predictions: list[Prediction]) -> Floats:
    return np.concatenate([one.outputs for one in predictions])


def _rounds(predictions: list[Prediction]) -> npt.NDArray[np.int64]:
    return np.concatenate(
        [np.full(len(one.outputs), one.version.round, np.int64) for one in predictions]
    )


def _probabilities(logits: Floats) -> npt.NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _classifies(about: prediction_pb2.GetModelResponse) -> bool:
    return about.loss == model_pb2.LOSS_SOFTMAX_CROSS_ENTROPY


def _document(
    about: prediction_pb2.GetModelResponse, predictions: list[Prediction]
) -> dict[str, Any]:
    outputs = _outputs(predictions)
    versions = {one.version.number: one.version for one in predictions}
    document: dict[str, Any] = {
        "agent": about.agent,
        "models": [message_document(version) for version in versions.values()],
        "rounds": _rounds(predictions).tolist(),
        "outputs": [[float(value) for value in row] for row in outputs],
    }
    if _classifies(about):
        shares = _probabilities(outputs)
        document["classes"] = shares.argmax(axis=1).tolist()
        document["probabilities"] = shares.max(axis=1).tolist()
    return document


def _print_predictions(
    about: prediction_pb2.GetModelResponse, predictions: list[Prediction]
) -> None:
    outputs, rounds = _outputs(predictions), _rounds(predictions)
    if _classifies(about):
        shares = _probabilities(outputs)
        columns = ["sample", "class", "probability", "round"]
        cells = [[str(row.argmax()), f"{row.max():.3f}"] for row in shares]
    else:
        columns = ["sample", "outputs", "round"]
        cells = [[_values(row)] for row in outputs]
    numbered = enumerate(zip(cells, rounds, strict=True))
    print_table(columns, [[str(index), *cell, str(number)] for index, (cell, number) in numbered])
    print(f"{predictions[-1].version.model} of {about.agent}, run {predictions[-1].version.run_id}")


def _values(row: Floats) -> str:
    more = " ..." if len(row) > MAX_VALUES_SHOWN else ""
    return " ".join(f"{value:.6g}" for value in row[:MAX_VALUES_SHOWN]) + more


def _print_model(about: prediction_pb2.GetModelResponse, as_json: bool) -> None:
    if as_json:
        document = message_document(about)
        loss = model_pb2.Loss.Name(about.loss).removeprefix("LOSS_").lower()
        print_json(document | {"loss": loss})
        return
    version = about.version
    shape = "x".join(map(str, (about.input_height, about.input_width, about.input_channels)))
    print(f"{version.model} of {about.agent}: {shape} inputs, {about.outputs} outputs")
    print(
        f"run {version.run_id} on {about.task}, round {version.round:,}, model {version.number:,}"
    )
    print(f"trained {ago(about.trained_time)}, loss {about.training_loss:.4g}")
    print(f"sha256 {version.parameters_sha256}")

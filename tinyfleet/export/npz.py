"""A model as an `.npz`: each layer's arrays under its name, the flat vector, the spec as JSON.

conv2d_1/weights   (k, k, in, filters) float32; dense (inputs, units), depthwise (k, k, channels)
conv2d_1/biases    (filters,) float32
parameters         all of them as one vector, layer by layer, the weights before the biases
model              the spec as JSON text, as a model's TOML file has it, and the SHA-256 of
                   the parameters
"""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np

from tinyfleet.export.check import Disagrees
from tinyfleet.export.layers import parts_of
from tinyfleet.export.tflite import check_exportable
from tinyfleet.model.document import model_from_document, model_to_document
from tinyfleet.model.spec import ModelSpec, Parameters, parameters_sha256
from tinyfleet.tasks.npz import read_array

MAX_BYTES = 256 * 1024 * 1024


def npz_archive(spec: ModelSpec, parameters: Parameters) -> bytes:
    """The archive; the same spec and parameters give the same bytes.

    Raises InvalidInput for parameters that do not fit or are not finite.
    """
    check_exportable(spec, parameters, probabilities=False)
    arrays: dict[str, np.ndarray] = {}
    for placed in spec.placed:
        if placed.trainable:
            weights, biases = parts_of(placed, parameters)
            arrays |= {f"{placed.name}/weights": weights, f"{placed.name}/biases": biases}
    document = model_to_document(spec) | {"parameters_sha256": parameters_sha256(parameters)}
    arrays |= {"parameters": parameters, "model": np.array(json.dumps(document, sort_keys=True))}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def check_archive(content: bytes, spec: ModelSpec, parameters: Parameters) -> None:
    """Raise Disagrees unless the layers' arrays, put together again, are the parameters."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [
            read_array(archive, f"{placed.name}/{part}", MAX_BYTES).reshape(-1)
            for placed in spec.placed
            if placed.trainable
            for part in ("weights", "biases")
        ]
        document = json.loads(str(read_array(archive, "model", MAX_BYTES)))
    document.pop("parameters_sha256")
    same = np.array_equal(np.concatenate(parts), parameters)
    if not same or model_from_document(document) != spec:
        raise Disagrees("the archive does not hold the model that went in: nothing was written")

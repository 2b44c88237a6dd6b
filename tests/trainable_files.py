"""Files with training signatures: those that TensorFlow made, and what becomes of them by editing.

docs/guides/make_trainable_tflite.py made both, with these arguments; tests/unit/trainable/
test_make_trainable.py makes them again where TensorFlow is.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ai_edge_litert.schema_py_generated as schema
import flatbuffers

from tinyfleet.litert.file import TfliteFile

FOLDER = Path(__file__).parent / "trainable"
MADE_BY = {
    "sine.tflite": "--hidden 16 16",  # one sample at a time
    "classifier.tflite": "--shape 2 3 1 --hidden 8 --outputs 3 --batch 4"
    " --loss softmax_cross_entropy",
}
SINE = TfliteFile((FOLDER / "sine.tflite").read_bytes())
CLASSIFIER = TfliteFile((FOLDER / "classifier.tflite").read_bytes())


def edited(change: Callable[[Any], None], file: TfliteFile = SINE) -> TfliteFile:
    """`file` after `change(model)`, which gets the object that the schema has for it."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytearray(file.content)))
    change(model)
    builder = flatbuffers.Builder(len(file.content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return TfliteFile(bytes(builder.Output()))


def signature(model: Any, name: str) -> Any:
    """A signature of a model under edit."""
    return next(one for one in model.signatureDefs if one.signatureKey == name.encode())


def graph(model: Any, name: str) -> Any:
    """The graph that a signature runs."""
    return model.subgraphs[signature(model, name).subgraphIndex]


def tensor(model: Any, name: str, end: str) -> Any:
    """The tensor of an input or output of a signature."""
    one = signature(model, name)
    ends = [*(one.inputs or []), *(one.outputs or [])]
    index = next(found.tensorIndex for found in ends if found.name == end.encode())
    return graph(model, name).tensors[index]


def rename(model: Any, name: str, to: str) -> None:
    """Call a signature something else."""
    signature(model, name).signatureKey = to


def leave_out(model: Any, name: str) -> None:
    """Take a signature away."""
    model.signatureDefs.remove(signature(model, name))


def forget(model: Any, name: str, end: str) -> None:
    """Take an output or input out of a signature; the graph stays as it is."""
    one = signature(model, name)
    for ends in (one.inputs, one.outputs):
        for found in list(ends or []):
            if found.name == end.encode():
                ends.remove(found)

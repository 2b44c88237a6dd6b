"""A model as one C99 header: its weights, and a function that predicts. It includes stdint.h only.

The function performs the operations of docs/numerics.md in their order, so its outputs are the
learner's to the bit wherever products and sums are not contracted into fused ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from tinyfleet.errors import DoesNotFit, InvalidInput
from tinyfleet.export import c_functions
from tinyfleet.export.layers import parts_of
from tinyfleet.export.tflite import check_exportable
from tinyfleet.learner.protocol import Floats
from tinyfleet.model.layers import Flatten, ReLU, Tanh
from tinyfleet.model.spec import ModelSpec, Parameters, parameters_sha256

MAX_PARAMETERS = 1_000_000  # our choice: 20 MB of text, and half a minute of a compiler
_PER_LINE = 6
_IDENTIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}")
_IN_PLACE = (ReLU, Tanh)


def identifier(text: str) -> str:
    """A name for C made of a model's; raises InvalidInput where there is nothing to make it of."""
    name = re.sub(r"[^a-zA-Z0-9]+", "_", text).strip("_")[:48]
    return check_identifier(name if name[:1].isalpha() else f"model_{name}"[:48])


def check_identifier(name: str) -> str:
    """`name`, if C takes it; raises InvalidInput if not."""
    if not _IDENTIFIER.fullmatch(name):
        raise InvalidInput("a name for C has 1 to 48 letters, digits and _, a letter first")
    return name


def c_header(
    spec: ModelSpec, parameters: Parameters, name: str, probabilities: bool = False
) -> str:
    """The header's text. name: what its functions and constants begin with.

    Raises InvalidInput for a bad name and like `float_tflite`, DoesNotFit for a model of over
    MAX_PARAMETERS parameters.
    """
    check_exportable(spec, parameters, probabilities)
    check_identifier(name)
    if spec.parameter_count > MAX_PARAMETERS:
        raise DoesNotFit(
            f"model '{spec.name}' has {spec.parameter_count:,} parameters, a C header at most "
            f"{MAX_PARAMETERS:,}: export it as a .tflite"
        )
    stages = _stages(spec, name, probabilities)
    kinds = dict.fromkeys(call.kind for stage in stages for call in stage.calls)
    parts = [
        _opening(spec, parameters, name, _buffers(stages), probabilities),
        *_constants(spec, parameters, name),
        *(c_functions.text_of(kind, name) for kind in c_functions.needed(kinds)),
        _predict(stages, name),
        f"#endif /* {name.upper()}_H */\n",
    ]
    return "\n".join(parts)


@dataclass(frozen=True)
class _Call:
    """A function and its arguments behind the two places that it reads and writes."""

    kind: str
    arguments: str


@dataclass
class _Stage:
    """Calls that leave their values in one place: the first puts them there."""

    values: int
    calls: list[_Call]


def _stages(spec: ModelSpec, name: str, probabilities: bool) -> list[_Stage]:
    stages: list[_Stage] = []
    for placed in spec.placed:
        if isinstance(placed.layer, Flatten):
            continue
        call = _Call(placed.layer.kind, c_functions.arguments_of(placed, name))
        if stages and isinstance(placed.layer, _IN_PLACE):
            stages[-1].calls.append(call)
        else:
            stages.append(_Stage(prod(placed.output_shape), [call]))
    if probabilities:
        stages[-1].calls.append(_Call("softmax", str(spec.outputs)))
    return stages


def _buffers(stages: list[_Stage]) -> list[int]:
    """Sizes, in floats, of the buffers that stages write in turn; the last writes the output."""
    sizes = [stage.values for stage in stages[:-1]]
    return [max(sizes[first::2]) for first in range(min(2, len(sizes)))]


def _predict(stages: list[_Stage], name: str) -> str:
    """The function itself."""
    lines = [f"static void {name}_predict(const float *input, float *output)", "{"]
    for buffer, size in zip("ab", _buffers(stages), strict=False):
        lines.append(f"    static float {buffer}[{size}];")
    here = "input"
    for number, stage in enumerate(stages):
        place = "output" if stage is stages[-1] else "ab"[number % 2]
        for call in stage.calls:
            function = f"{name}_{c_functions.name_of(call.kind)}"
            lines.append(f"    {function}({here}, {place}, {call.arguments});")
            here = place
    return "\n".join([*lines, "}", ""])


def _constants(spec: ModelSpec, parameters: Parameters, name: str) -> Iterator[str]:
    for placed in spec.placed:
        if placed.trainable:
            for part, array in zip(
                ("weights", "biases"), parts_of(placed, parameters), strict=True
            ):
                yield _array(f"{name}_{placed.name}_{part}", array.reshape(-1))


def _array(name: str, values: Floats) -> str:
    """Hexadecimal floats: they are exact."""
    texts = [f"{_hex(float(value))}f" for value in values]
    rows = (", ".join(texts[i : i + _PER_LINE]) for i in range(0, len(texts), _PER_LINE))
    return f"static const float {name}[{len(texts)}] = {{\n    " + ",\n    ".join(rows) + "\n};\n"


def _hex(value: float) -> str:
    mantissa, p, exponent = value.hex().partition("p")
    return f"{mantissa.rstrip('0').rstrip('.')}{p}{exponent}" if "." in mantissa else value.hex()


def _opening(
    spec: ModelSpec, parameters: Parameters, name: str, buffers: list[int], probabilities: bool
) -> str:
    said = "probabilities" if probabilities else _meaning(spec)
    height, width, channels = spec.input_shape
    return c_functions.OPENING.format(
        model=re.sub(r"[^a-zA-Z0-9 .,+-]", "_", spec.name),
        sha256=parameters_sha256(parameters),
        shape=f"{height}x{width}x{channels}",
        inputs=spec.inputs,
        outputs=spec.outputs,
        said=said,
        constants=spec.parameter_bytes,
        scratch=4 * sum(buffers),
        name=name,
        upper=name.upper(),
    )


def _meaning(spec: ModelSpec) -> str:
    return "logits" if spec.loss == "softmax_cross_entropy" else "values"

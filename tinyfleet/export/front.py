"""What is in front of a model that is exported: an extractor, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tinyfleet.export.merging import append_head, append_int8_head
from tinyfleet.export.quantize import int8_tflite
from tinyfleet.export.tflite import float_tflite
from tinyfleet.learner.protocol import Floats
from tinyfleet.litert.file import TfliteFile
from tinyfleet.litert.graph import Graph
from tinyfleet.model.spec import ModelSpec, Parameters


@dataclass(frozen=True)
class Front:
    """An extractor's file, tried when it is first used, or None where samples go in as they are."""

    file: TfliteFile | None = None

    def features(self, inputs: Floats) -> Floats:
        """What the model sees of samples, `(count, model's inputs) float32`."""
        return inputs if self._graph is None else self._graph(inputs)

    def with_float(
        self, spec: ModelSpec, parameters: Parameters, probabilities: bool
    ) -> TfliteFile:
        """One file of both, the model in float32."""
        if self.file is None:
            return float_tflite(spec, parameters, probabilities)
        _ = self._graph  # tried in another process before it is read in this one
        return append_head(self.file, spec, parameters, probabilities)

    def with_int8(
        self,
        spec: ModelSpec,
        parameters: Parameters,
        calibration: Floats,
        probabilities: bool,
        float_io: bool,
    ) -> TfliteFile:
        """One file of both, the model in int8; an extractor's own input decides about the ends."""
        if self.file is None:
            return int8_tflite(spec, parameters, calibration, probabilities, float_io)
        _ = self._graph
        return append_int8_head(self.file, spec, parameters, calibration, probabilities)

    @cached_property
    def _graph(self) -> Graph | None:
        return None if self.file is None else Graph(self.file)

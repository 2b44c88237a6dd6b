"""Models as data: layers, parameter layout, built-in models, initialization."""

from tinyfleet.model.builtin import BUILTIN_MODELS, builtin_model
from tinyfleet.model.document import load_model, model_from_document, model_to_document
from tinyfleet.model.initialization import initial_parameters
from tinyfleet.model.spec import ModelSpec, Parameters, PlacedLayer, parameters_sha256

__all__ = [
    "BUILTIN_MODELS",
    "ModelSpec",
    "Parameters",
    "PlacedLayer",
    "builtin_model",
    "initial_parameters",
    "load_model",
    "model_from_document",
    "model_to_document",
    "parameters_sha256",
]

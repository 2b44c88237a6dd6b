"""Networks, samples and phases for the tests of the learners: chosen ones and random ones."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from tinyfleet.errors import InvalidInput
from tinyfleet.learner.protocol import Samples
from tinyfleet.model.layers import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    MaxPool2D,
    ReLU,
    Tanh,
)
from tinyfleet.model.spec import LOSSES, ModelSpec
from tinyfleet.strategies.plan import Phase

MSE, CROSS_ENTROPY = LOSSES


def chosen(name, shape, loss, *layers):
    return ModelSpec(name, shape, layers, loss)


# Every layer kind above and below layers with weights, both losses, awkward shapes.
NETWORKS = {
    spec.name: spec
    for spec in (
        chosen("one_dense", (1, 1, 3), MSE, Dense(2)),
        chosen("mlp", (1, 1, 2), MSE, Dense(33), ReLU(), Dense(17), ReLU(), Dense(3)),
        chosen("tanh_mlp", (1, 1, 5), CROSS_ENTROPY, Dense(9), Tanh(), Dense(4)),
        chosen(
            *("conv_padded", (7, 6, 2), CROSS_ENTROPY),
            *(Conv2D(9, 3, 2, 1), ReLU(), Conv2D(5, 2, 1, 0), Tanh(), Flatten(), Dense(3)),
        ),
        chosen(
            *("conv_wide", (5, 5, 3), MSE),
            *(Conv2D(41, 3, 1, 2), ReLU(), Conv2D(6, 3, 2, 1), Flatten(), ReLU(), Dense(2)),
        ),
        chosen(
            *("depthwise", (6, 5, 3), CROSS_ENTROPY),
            *(Conv2D(10, 1), Tanh(), DepthwiseConv2D(3, 2, 1), ReLU(), Flatten(), Dense(4)),
        ),
        chosen(
            *("pools", (9, 8, 2), CROSS_ENTROPY),
            *(Conv2D(6, 2), ReLU(), MaxPool2D(3, 1), Conv2D(5, 2), AveragePool2D(2, 1)),
            *(Conv2D(3, 1), GlobalAveragePool2D()),
        ),
        chosen(
            *("activations_first", (4, 4, 2), MSE),
            *(
                Tanh(),
                ReLU(),
                DepthwiseConv2D(2),
                Tanh(),
                Tanh(),
                MaxPool2D(2),
                Flatten(),
                Dense(2),
            ),
        ),
        chosen("strides_skip_pixels", (8, 9, 1), MSE, Conv2D(4, 2, 3, 1), ReLU(), Conv2D(2, 1, 2)),
    )
}


def draw_samples(spec, count, seed):
    """Inputs of which a quarter are exact zeros, and targets that suit the loss."""
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(count, spec.inputs)).astype(np.float32)
    inputs[random.random(inputs.shape) < 0.25] = 0.0
    if spec.loss == MSE:
        return Samples(inputs, random.normal(size=(count, spec.outputs)).astype(np.float32))
    classes = random.integers(0, spec.outputs, count)
    return Samples(inputs, np.eye(spec.outputs, dtype=np.float32)[classes])


def draw_parameters(spec, seed):
    """Random weights and biases of about the size that initialization gives."""
    random = np.random.default_rng([seed, 1])
    parameters = np.zeros(spec.parameter_count, np.float32)
    for placed in spec.placed:
        if placed.trainable:
            scale = 1.0 / np.sqrt(placed.layer.fan_in(placed.input_shape))
            size = placed.stop - placed.start
            parameters[placed.start : placed.stop] = random.normal(0.0, scale, size)
    return parameters


def _layers(draw):
    """A few layers in an order that need not fit."""
    small, channels = st.integers(1, 3), st.integers(1, 40)
    window = st.tuples(st.integers(1, 4), small)
    kinds = st.one_of(
        st.builds(Conv2D, channels, small, small, st.integers(0, 2)),
        st.builds(DepthwiseConv2D, small, small, st.integers(0, 2)),
        window.map(lambda sizes: MaxPool2D(*sizes)),
        window.map(lambda sizes: AveragePool2D(*sizes)),
        st.sampled_from((ReLU(), Tanh(), GlobalAveragePool2D(), Flatten())),
        st.sampled_from((ReLU(), Tanh())),
    )
    body = draw(st.lists(kinds, max_size=6))
    head = draw(st.lists(st.builds(Dense, channels), max_size=3))
    between = [
        layer for dense in head for layer in (dense, draw(st.sampled_from((ReLU(), Tanh()))))
    ]
    return (*body, Flatten(), *between, *([] if between else [Dense(draw(channels))]))


@st.composite
def networks(draw):
    """A random ModelSpec: layers that do not fit their input are left out."""
    shape = draw(st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 5)))
    loss = draw(st.sampled_from(LOSSES))
    kept = ()
    for layer in _layers(draw):
        try:
            ModelSpec("random", shape, (*kept, layer, Flatten(), Dense(1)), loss)
        except InvalidInput:
            continue
        kept = (*kept, layer)
    return ModelSpec("random", shape, kept, loss)


@st.composite
def phases(draw, spec):
    """A random phase of at most 7 samples."""
    samples = draw(st.integers(1, 7))
    names = [placed.name for placed in spec.placed]
    return Phase(
        samples=samples,
        rate=draw(st.sampled_from((0.001, 0.05, 0.3))),
        batch_size=draw(st.integers(1, samples)),
        passes=draw(st.integers(1, 2)),
        trainable=tuple(draw(st.lists(st.sampled_from(names), max_size=3, unique=True))),
        proximal=draw(st.sampled_from((0.0, 0.0, 0.1, 3.0))),
    )

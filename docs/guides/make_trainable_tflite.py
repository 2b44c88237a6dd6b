"""Make a `.tflite` file that trains itself: a network in TensorFlow, with the four signatures.

    .venv-tf/bin/python docs/guides/make_trainable_tflite.py --hidden 32 32 --out sine.tflite

Copy this file and change `Network` to your own: docs/guides/bring-a-trainable-tflite.md explains
it. Needs TensorFlow (`make setup-tf`) and nothing of TinyFleet.

LiteRT has no operator for the gradient of `tf.nn.relu` or for that of the kernel of `tf.nn.conv2d`,
so `tf.maximum` and slices with a matrix product are used here. All shapes are fixed, the batch too.
"""

import argparse
import itertools
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import tensorflow as tf


class Network(tf.Module):
    """Convolutions, then dense layers, with ReLU between them, and what training them takes.

    shape: of a sample, `(height, width, channels)` or `(values,)`. filters: of each convolution.
    units: of each dense layer, the last one's are the outputs. weights: by the name under which
    they travel; they are sorted by it, and the last of them are "the last layers".
    """

    def __init__(
        self, shape: list[int], filters: list[int], units: list[int], loss: str, seed: int
    ) -> None:
        super().__init__()
        self.shape, self.filters, self.units, self.loss = shape, filters, units, LOSSES[loss]
        self.random, self.weights = np.random.default_rng(seed), {}
        side = list(shape)
        for layer, count in enumerate(filters):
            self.add(f"conv_{layer}", 9 * side[2], count)
            side = [(side[0] + 1) // 2, (side[1] + 1) // 2, count]
        for layer, (inputs, outputs) in enumerate(itertools.pairwise([int(np.prod(side)), *units])):
            self.add(f"dense_{layer}", inputs, outputs, 0.1 if layer == len(units) - 1 else 1.0)

    def add(self, name: str, inputs: int, outputs: int, scale: float = 1.0) -> None:
        """The weights of a layer, He-uniform; the last layer begins ten times smaller."""
        bound = scale * np.sqrt(6 / inputs)
        kernel = self.random.uniform(-bound, bound, (inputs, outputs)).astype(np.float32)
        self.weights[f"{name}_kernel"] = tf.Variable(kernel)
        self.weights[f"{name}_bias"] = tf.Variable(np.zeros(outputs, np.float32))

    def logits(self, x: Any) -> Any:
        """`(batch, outputs)` of `(batch, *shape)`; for a classifier without the softmax."""
        for layer in range(len(self.filters)):
            x = tf.maximum(self.apply(f"conv_{layer}", neighbours(x)), 0.0)
        x = tf.reshape(x, [x.shape[0], -1])
        for layer in range(len(self.units)):
            x = self.apply(f"dense_{layer}", x)
            x = x if layer == len(self.units) - 1 else tf.maximum(x, 0.0)
        return x

    def apply(self, name: str, x: Any) -> Any:
        """`x` through a layer: its last axis times the kernel, plus the bias."""
        rows = tf.reshape(x, [-1, x.shape[-1]])
        outputs = tf.matmul(rows, self.weights[f"{name}_kernel"]) + self.weights[f"{name}_bias"]
        return tf.reshape(outputs, [*x.shape[:-1], outputs.shape[-1]])

    def train(self, x: Any, y: Any, rate: Any) -> Any:
        """One step of plain SGD: all gradients first, then all weights. The loss before it."""
        with tf.GradientTape() as tape:
            loss = self.loss(self.logits(x), y)
        weights = list(self.weights.values())
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(rate * gradient)
        return {"loss": loss}

    def infer(self, x: Any) -> Any:
        """What the network says."""
        return {"logits": self.logits(x)}

    def get_weights(self) -> Any:
        """Everything that `train` changes."""
        return {name: weight.read_value() for name, weight in self.weights.items()}

    def set_weights(self, **given: Any) -> Any:
        """The same names again. A signature needs an output: this one says nothing."""
        for name, weight in self.weights.items():
            weight.assign(given[name])
        return {"done": tf.constant(1.0)}

    def signatures(self, batch: int) -> dict[str, Any]:
        """The four, for that many samples at a time."""
        x = tf.TensorSpec([batch, *self.shape], tf.float32, "x")
        y = tf.TensorSpec([batch, self.units[-1]], tf.float32, "y")
        rate = tf.TensorSpec([], tf.float32, "rate")
        given = {n: tf.TensorSpec(w.shape, tf.float32, n) for n, w in self.weights.items()}
        return {
            "train": tf.function(self.train).get_concrete_function(x, y, rate),
            "infer": tf.function(self.infer).get_concrete_function(x),
            "get_weights": tf.function(self.get_weights).get_concrete_function(),
            "set_weights": tf.function(self.set_weights).get_concrete_function(**given),
        }


def neighbours(x: Any) -> Any:
    """What a 3x3 convolution of stride 2, with zeros around the image, sees at each place.

    `(batch, rows, columns, 9 * channels)`. Made of `tf.slice`, whose gradient is `tf.pad`.
    """
    batch, height, width, channels = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2
    x = tf.pad(x, [[0, 0], [1, 2 * rows + 1 - height], [1, 2 * columns + 1 - width], [0, 0]])
    seen = []
    for down, right in itertools.product(range(3), repeat=2):
        part = tf.slice(x, [0, down, right, 0], [batch, 2 * rows, 2 * columns, channels])
        part = tf.reshape(part, [batch * rows, 2, columns, 2 * channels])
        part = tf.slice(part, [0, 0, 0, 0], [batch * rows, 1, columns, channels])
        seen.append(tf.reshape(part, [batch, rows, columns, channels]))
    return tf.concat(seen, axis=3)


def mean_squared_error(outputs: Any, y: Any) -> Any:
    """As TinyFleet has it: the mean over outputs and samples."""
    return tf.reduce_mean(tf.square(outputs - y))


def softmax_cross_entropy(logits: Any, y: Any) -> Any:
    """As TinyFleet has it: y is one-hot or a distribution; the mean over samples."""
    return tf.reduce_mean(-tf.reduce_sum(y * tf.nn.log_softmax(logits), axis=1))


LOSSES = {
    "mean_squared_error": mean_squared_error,
    "softmax_cross_entropy": softmax_cross_entropy,
}


def convert(network: Network, batch: int) -> bytes:
    """The `.tflite` file, of LiteRT's own operators only."""
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(network, folder, signatures=network.signatures(batch))
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        return bytes(converter.convert())


def main() -> None:
    """Make the file that the command line describes."""
    usual = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=usual)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--shape", type=int, nargs="+", default=[1], help="of a sample")
    parser.add_argument("--filters", type=int, nargs="*", default=[], help="of each convolution")
    parser.add_argument("--hidden", type=int, nargs="*", default=[], help="units of hidden layers")
    parser.add_argument("--outputs", type=int, default=1, help="values that are predicted")
    parser.add_argument("--loss", choices=LOSSES, default="mean_squared_error", help="minimised")
    parser.add_argument("--batch", type=int, default=1, help="samples of a step")
    parser.add_argument("--seed", type=int, default=1, help="of the weights to begin with")
    given = parser.parse_args()
    units = [*given.hidden, given.outputs]
    network = Network(given.shape, given.filters, units, given.loss, given.seed)
    content = convert(network, given.batch)
    given.out.write_bytes(content)
    count = sum(int(np.prod(weight.shape)) for weight in network.weights.values())
    print(f"{given.out}: {len(content):,} bytes, {count:,} weights")  # noqa: T201 - the answer


if __name__ == "__main__":
    main()

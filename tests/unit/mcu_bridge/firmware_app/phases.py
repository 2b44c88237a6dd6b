"""Phases as requests, and what they must come to."""

import numpy as np

from mcu_bridge.device.messages import RESULT, Source, run_request
from mcu_bridge.sample_encoding import EncodedSamples, InputEncoding, TargetEncoding, encode_samples
from tinyfleet.learner.native import NativeLearner

KEEP_START, GRADIENT = 1, 2


def request_of(spec, phase, samples):
    """TRAIN's payload and the sample bytes."""
    encoded = encode_samples(samples)
    return run_request(spec.layer_mask(phase.trainable), phase, encoded), encoded.data


def plain(samples):
    """The samples as floats, also where fewer bytes would do."""
    rows = np.concatenate([samples.inputs, samples.targets], axis=1)
    return EncodedSamples(
        *(InputEncoding.FLOAT32, TargetEncoding.FLOAT32, 1.0, 4 * rows.shape[1], rows.tobytes())
    )


def on_sensor(spec, phase, seed):
    """TRAIN's payload for the board's own samples."""
    payload = run_request(spec.layer_mask(phase.trainable), phase, seed=seed)
    assert payload[24] == Source.SENSOR
    return payload


def trained(library, spec, parameters, samples, phase):
    """The parameters, and what the host's learner says, after `phase` on a host."""
    result = parameters.copy()
    return result, NativeLearner(spec, library).train(result, samples, phase, parameters)


def result_of(response):
    """RESULT's fields by name."""
    names = ("status", "diverged", "steps", "updates", "correct", "crc32", "ticks", "loss_sum")
    return dict(zip(names, RESULT.unpack(response), strict=True))

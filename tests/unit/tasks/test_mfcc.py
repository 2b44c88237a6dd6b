"""The features of a clip: right by a plain reading of the definition, and the same everywhere."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sound_files import clip

from tinyfleet.tasks import mfcc as module
from tinyfleet.tasks.mfcc import COEFFICIENTS, FRAMES, STEPS, mfcc

GOLDEN = "c4aabbbfda156de2716dde07df63d90d8ebd4198ec20df0e73658045924e2b15"


def plainly(waveform):
    """The same chain, sum by sum, without a fast transform."""
    padded = np.zeros(16_000)
    start = (16_000 - len(waveform)) // 2
    padded[start : start + len(waveform)] = waveform / 32768.0
    time, bins = np.arange(640), np.arange(257)
    hann = np.sin(np.pi * time / 640) ** 2
    waves = np.exp(-2j * np.pi * np.outer(time, bins) / 1024)
    mel = 2595.0 * np.log10(1.0 + bins * 15.625 / 700.0)
    ends = 2595.0 * np.log10(1.0 + np.array([20.0, 4000.0]) / 700.0)
    centres = np.linspace(*ends, 42)
    rows = []
    for frame in range(49):
        power = np.abs((padded[frame * 320 : frame * 320 + 640] * hann) @ waves) ** 2 / 240.0
        bands = [np.interp(mel, centres[b : b + 3], [0, 1, 0]) @ power for b in range(40)]
        logs = np.log(np.array(bands) + 1e-6)
        angles = np.outer(np.arange(10), np.arange(40) + 0.5) * np.pi / 40
        scale = np.sqrt(np.where(np.arange(10) == 0, 1.0, 2.0) / 40)
        rows.append(scale * (np.cos(angles) @ logs))
    return np.array(rows)


def test_features_are_what_the_definition_says():
    sound = clip(3, 1, 14_001)
    exact = (plainly(sound) - module._MEANS) * STEPS / module._DEVIATIONS
    features = mfcc(sound).reshape(FRAMES, COEFFICIENTS)
    # Rounded to a whole number: at most half a level, and what two ways to sum differ by.
    assert np.abs(np.clip(exact, -128, 127) - features).max() <= 0.5 + 1e-6


def test_features_never_change():
    together = b"".join(mfcc(clip(word, word + 1)).tobytes() for word in range(5))
    assert hashlib.sha256(together).hexdigest() == GOLDEN


@given(st.integers(1, 16_000), st.integers(0, 40))
def test_every_length_gives_one_matrix_of_bytes(samples, word):
    features = mfcc(clip(word, 0, samples))
    assert features.shape == (49 * 10,)
    assert features.dtype == np.int8


def test_a_short_clip_is_put_in_the_middle_of_silence():
    sound = clip(2, 0, 9_001)
    padded = np.concatenate([np.zeros(3_499, np.int16), sound, np.zeros(3_500, np.int16)])
    assert np.array_equal(mfcc(sound), mfcc(padded))


@pytest.mark.parametrize("level", [0, 1, -32768])
def test_a_clip_that_never_moves_has_features(level):
    assert np.isfinite(mfcc(np.full(16_000, level, np.int16))).all()


def test_frames_of_silence_are_all_alike():
    frames = mfcc(np.zeros(16_000, np.int16)).reshape(FRAMES, COEFFICIENTS)
    assert (frames == frames[0]).all()
    assert np.abs(frames).max() < 127


def test_loudness_shows_in_the_first_coefficient_only():
    sound = clip(1, 0)
    loud, soft = (mfcc(s).astype(int).reshape(FRAMES, COEFFICIENTS) for s in (sound, sound // 4))
    assert (loud[:, 0] > soft[:, 0]).all()
    assert np.abs(loud - soft)[:, 1:].mean() < 4.0

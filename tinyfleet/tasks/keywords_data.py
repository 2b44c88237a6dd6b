"""Spoken words from disk: the repacked `.npz`, or the official folder of `.wav` files.

Both give the same thing: the features of every clip (`mfcc`), its word and its speaker. Clips are
read and turned into features one at a time, so the sound itself is never in memory as a whole.
"""

from __future__ import annotations

import wave
import zipfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tinyfleet.errors import InvalidInput
from tinyfleet.tasks.mfcc import CLIP_SAMPLES, SAMPLE_RATE, Features, Waveform, mfcc
from tinyfleet.tasks.npz import check_labels, exactly, lengths_of, open_array, read_array, reading

REMEDY = (
    "give speech_commands.npz, or the folder that holds one folder of .wav files a word, with "
    "--data or TINYFLEET_DATA"
)
MAX_CLIPS = 200_000  # our choice: twice the official data set; 100 MB of features
MAX_WORDS = 1_000
_NPZ = "speech_commands.npz"


@dataclass(frozen=True)
class Clip:
    """One recording: its word, an id of who spoke it, its features."""

    word: str
    speaker: str
    features: Features


def read_clips(path: Path | None) -> list[Clip]:
    """Every clip at `path`, in the order of the file, or sorted by name; raises InvalidInput.

    Takes about 0.5 ms and 1 KB a clip.
    """
    if path is None:
        raise InvalidInput(f"task 'keywords' needs its data: {REMEDY}")
    if not path.exists():
        raise InvalidInput(f"no spoken words at {path}: {REMEDY}")
    if path.is_dir() and (path / _NPZ).exists():
        path = path / _NPZ
    with _reading(path):
        clips = list(_folder_clips(path) if path.is_dir() else _npz_clips(path))
        if not clips:
            raise InvalidInput(f"it holds no clip; {REMEDY}")
    return clips


def _reading(path: Path) -> AbstractContextManager[None]:
    return reading("spoken words", path, REMEDY)


def _npz_clips(path: Path) -> Iterator[Clip]:
    """From the arrays waveform, offsets, label, words, speaker and sample_rate."""
    with zipfile.ZipFile(path) as archive:
        rate = read_array(archive, "sample_rate")
        if rate.shape != () or rate.dtype.kind not in "iu" or rate != SAMPLE_RATE:
            raise InvalidInput(f"sample_rate must be {SAMPLE_RATE}")
        lengths = lengths_of(read_array(archive, "offsets"), MAX_CLIPS, CLIP_SAMPLES)
        words = _texts(read_array(archive, "words"), "words", MAX_WORDS)
        speakers = _texts(read_array(archive, "speaker"), "speaker", MAX_CLIPS)
        if len(speakers) != len(lengths):
            raise InvalidInput("speaker must be a text for each clip")
        labels = read_array(archive, "label")
        check_labels(labels, len(lengths), len(words))
        with open_array(archive, "waveform") as (stream, shape, dtype):
            if dtype != np.int16 or len(shape) != 1 or shape[0] < sum(lengths):
                raise InvalidInput("waveform must be int16, as long as the offsets say")
            for length, label, speaker in zip(lengths, labels.tolist(), speakers, strict=True):
                sound = np.frombuffer(exactly(stream, 2 * length), dtype)
                yield Clip(words[label], speaker, mfcc(sound))


def _texts(array: npt.NDArray[np.generic], name: str, most: int) -> list[str]:
    if array.ndim != 1 or array.dtype.kind != "U" or not 1 <= len(array) <= most:
        raise InvalidInput(f"{name} must be 1 to {most} texts")
    return [str(text) for text in array.tolist()]


def _folder_clips(root: Path) -> Iterator[Clip]:
    """From `<word>/<speaker>_nohash_<take>.wav`; folders that begin with `_` or `.` are left out.

    (`_background_noise_` holds no words.)
    """
    words = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] not in "_.")
    if len(words) > MAX_WORDS:
        raise InvalidInput(f"it has more than {MAX_WORDS} folders of words")
    done = 0
    for word in words:
        for path in sorted(word.glob("*.wav")):
            done += 1
            if done > MAX_CLIPS:
                raise InvalidInput(f"it has more than {MAX_CLIPS} clips")
            yield Clip(word.name, path.name.partition("_")[0], mfcc(_read_wav(path)))


def _read_wav(path: Path) -> Waveform:
    """The sound of a mono 16-bit .wav of at most a second, 16,000 samples a second."""
    try:
        with path.open("rb") as file, wave.open(file) as sound:
            kind = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
            samples = sound.getnframes()
            if kind != (1, 2, SAMPLE_RATE) or not 1 <= samples <= CLIP_SAMPLES:
                raise InvalidInput(
                    f"it must be mono, 16 bits, {SAMPLE_RATE} Hz, 1 to {CLIP_SAMPLES} samples"
                )
            data = sound.readframes(samples)
    except InvalidInput as error:
        raise InvalidInput(f"{path.parent.name}/{path.name}: {error}") from None
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it is cut short"
        raise InvalidInput(f"{path.parent.name}/{path.name}: {reason}") from None
    if len(data) != 2 * samples:
        raise InvalidInput(f"{path.parent.name}/{path.name}: it is cut short")
    return np.frombuffer(data, "<i2")

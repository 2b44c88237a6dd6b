"""Small sets of spoken words, made up, in both forms in which the real ones come."""

import wave

import numpy as np

TRAINING = ("bed", "cat", "go", "happy", "left", "right")
DIGITS = ("five", "two", "zero")
WORDS = (*TRAINING, *DIGITS)
SPEAKERS = ("0a7c2a8d", "1ecfb537", "b55a09be")
CLIPS = 6  # of each word: two by each speaker


def clip(word, take, samples=16_000):
    """`(samples,) int16`: two tones of the word, with the noise of the take; whole numbers only."""
    time = np.arange(samples, dtype=np.int64)
    tones = sum(((time * (7 + 13 * k + 5 * word)) % 256 - 128) * 40 for k in (1, 2))
    noise = (time * 1_103_515_245 + 12_345 * (take + 1)) % 65_536 // 64 - 512
    return (tones + noise).astype(np.int16)


def clips():
    """Word, speaker and sound of each clip; takes differ in their length."""
    for number, word in enumerate(WORDS):
        for take in range(CLIPS):
            length = 16_000 - 100 * take
            yield word, SPEAKERS[take % len(SPEAKERS)], clip(number, take, length)


def arrays():
    words, speakers, sounds = zip(*clips(), strict=True)
    return {
        "waveform": np.concatenate(sounds),
        "offsets": np.cumsum([0, *(len(sound) for sound in sounds)]),
        "label": np.array([WORDS.index(word) for word in words], np.int16),
        "words": np.array(WORDS),
        "speaker": np.array(speakers),
        "sample_rate": np.int32(16_000),
    }


def write_npz(path, **changes):
    np.savez_compressed(path, **(arrays() | changes))
    return path


def write_wav(path, sound, channels=1, width=2, rate=16_000):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())
    return path


def write_folder(root):
    for number, (word, speaker, sound) in enumerate(clips()):
        write_wav(root / word / f"{speaker}_nohash_{number}.wav", sound)
    write_wav(root / "_background_noise_" / "doing_the_dishes.wav", np.zeros(40_000))
    return root

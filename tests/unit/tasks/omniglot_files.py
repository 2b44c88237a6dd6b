"""Small Omniglots, made up, in every form in which the real one comes."""

import struct
import zipfile
import zlib

import numpy as np

DRAWINGS = 6
CLASSES = {"background": 8, "evaluation": 7}


def images(seed=1):
    """`(15, 6, 28, 28) uint8`: no two drawings are equal, most pixels are white."""
    random = np.random.default_rng(seed)
    shape = (sum(CLASSES.values()), DRAWINGS, 28, 28)
    ink = random.integers(1, 256, shape, dtype=np.uint8)
    return np.where(random.random(shape) < 0.13, ink, np.uint8(0))


def arrays():
    split = np.repeat([0, 1], list(CLASSES.values())).astype(np.uint8)
    names = {"split_names": np.array(list(CLASSES)), "alphabet": np.array(alphabets())}
    return {"images": images(), "split": split} | names


def alphabets():
    """Of each class: six of the background, the fifth of them with two characters."""
    return ["A", "A", "B", "C", "E", "E", "D", "F"] + ["Z"] * CLASSES["evaluation"]


def write_npz(path, **changes):
    np.savez_compressed(path, **(arrays() | changes))
    return path


def png(pixels, depth=1, filters=(0,), **header):
    """A grey PNG of `(height, width) uint8` whose rows use the filters in turn."""
    height, width = pixels.shape
    rows = np.packbits(pixels > 127, axis=1) if depth == 1 else pixels
    above = bytes(rows.shape[1])
    body = b""
    for index, row in enumerate(rows):
        kind = filters[index % len(filters)]
        body += bytes([kind]) + filtered(kind, row.tobytes(), above)
        above = row.tobytes()
    fields = {"width": width, "height": height, "depth": depth, "colour": 0} | header
    start = struct.pack(">IIBBBBB", *fields.values(), 0, 0, 0)
    parts = [(b"IHDR", start), (b"IDAT", zlib.compress(body)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in parts)


def filtered(kind, row, above):
    out = bytearray()
    for i, value in enumerate(row):
        left = row[i - 1] if i else 0
        corner = above[i - 1] if i else 0
        up = above[i]
        estimate = left + up - corner
        nearest = min((left, up, corner), key=lambda c: abs(estimate - c))
        guess = {0: 0, 1: left, 2: up, 3: (left + up) // 2, 4: nearest}[kind]
        out.append((value - guess) % 256)
    return bytes(out)


def chunk(kind, data):
    crc = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + crc


def drawing(seed):
    """A 105 x 105 black on white drawing: a few thick strokes."""
    random = np.random.default_rng(seed)
    pixels = np.full((105, 105), 255, np.uint8)
    for _ in range(4):
        row, column = random.integers(5, 80, 2)
        pixels[row : row + 3, column : column + 20] = 0
        pixels[row : row + 15, column : column + 3] = 0
    return pixels


def official_files(split):
    """Names and contents as in `images_<split>`."""
    offset = 0 if split == "background" else 1000
    own = alphabets()[: CLASSES["background"]] if split == "background" else ["Z"] * 7
    for number in range(CLASSES[split]):
        folder = f"images_{split}/{own[number]}/character{number + 1:02d}"
        for index in range(DRAWINGS):
            name = f"{folder}/{number:04d}_{index + 1:02d}.png"
            yield name, png(drawing(offset + number * DRAWINGS + index))


def write_folders(root):
    for split in CLASSES:
        for name, data in official_files(split):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(data)
    return root


def write_zips(root):
    for split in CLASSES:
        with zipfile.ZipFile(root / f"images_{split}.zip", "w") as archive:
            archive.writestr(f"__MACOSX/images_{split}/a/b/._x.png", b"not a png")
            for name, data in official_files(split):
                archive.writestr(name, data)
    return root

"""Small image files with a byte changed, cut off or with bytes inserted, and what decoding makes of them.

Called in a process of its own, since a decoder that does not survive a file takes the process with it.
"""

import io
import multiprocessing
import struct
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from datamodules.decoding import BrokenImageError, decode_image, quiet_torchvision
from tests.datamodules.image_files import png_chunk, smooth_pixels, write_sixteen_bit_png


def in_a_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a process of its own; one that dies raises `BrokenProcessPool` here."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "lightning"])
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


def write_intact(folder: Path) -> list[Path]:
    """Write a small file of each kind; those whose names begin with ``sums`` have checksums throughout."""
    picture = Image.fromarray(smooth_pixels(6, 9))
    clear = Image.fromarray(np.dstack([smooth_pixels(6, 9), smooth_pixels(6, 9, seed=1)[..., 0]]))
    exif = Image.Exif()
    exif[274] = 6
    levels = np.random.default_rng(0).integers(0, 2**16, (5, 6, 3), dtype=np.uint16)
    written = [
        write_sixteen_bit_png(folder / "sums-grey16.png", levels[..., 0]),
        write_sixteen_bit_png(folder / "sums-rgb16.png", levels),
        write_interlaced_png(folder / "sums-interlaced.png", smooth_pixels(6, 9)),
    ]
    others = {
        "sums-rgb.png": (picture, {"exif": exif}),
        "sums-rgba.png": (clear, {}),
        "sums-grey.png": (picture.convert("L"), {"transparency": 100}),
        "sums-palette.png": (picture.quantize(8), {"transparency": 0}),
        "baseline.jpg": (picture, {"exif": exif}),
        "progressive.jpg": (picture, {"progressive": True}),
        "a.bmp": (picture, {}),
        "a.webp": (picture, {}),
        "a.tif": (picture, {"compression": "tiff_lzw"}),
        "a.ppm": (picture, {}),
        "a.gif": (picture, {}),
    }
    for name, (image, options) in others.items():
        image.save(folder / name, **options)
        written.append(folder / name)
    return written


def write_interlaced_png(path: Path, pixels: np.ndarray) -> Path:
    """Write ``(H, W, 3)`` uint8 in the seven passes of the PNG standard, which Pillow only reads."""
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    parts = [pixels[top::down, left::right] for top, left, down, right in passes]
    raw = b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, 1)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(raw)), png_chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def damaged(content: bytes, count: int, seed: int) -> list[bytes]:
    """Change a byte at ``count`` places of a file, cut it at as many, and insert bytes at as many."""
    random = np.random.default_rng(seed)
    files = []
    for place in random.choice(len(content), count, replace=False).tolist():
        changed = bytearray(content)
        changed[place] ^= int(random.integers(1, 256))
        garbage = random.integers(0, 256, random.integers(1, 6), dtype=np.uint8).tobytes()
        files += [bytes(changed), content[:place], content[:place] + garbage + content[place:]]
    return files


def decode_damaged(folder: str, count: int) -> dict[str, dict[str, int]]:
    """Damage each kind of file, and count what decoding it does: ``broken``, ``same`` pixels or ``others``."""
    warnings.simplefilter("error")
    quiet_torchvision()
    found = {}
    for path in write_intact(Path(folder)):
        content, pixels = path.read_bytes(), decode_image(path, 3)
        outcomes: Counter[str] = Counter()
        for number, file in enumerate(damaged(content, count, seed=0)):
            broken = path.with_name(f"{number}-{path.name}")
            broken.write_bytes(file)
            try:
                outcomes["same" if torch.equal(decode_image(broken, 3), pixels) else "others"] += 1
            except BrokenImageError as error:
                assert str(broken) in str(error), error
                outcomes["broken"] += 1
        found[path.name] = dict(outcomes)
    return found


def decode_every_flip(folder: str) -> list[int]:
    """Decode a PNG with each of its bytes changed in turn, and return the places where that is not noticed."""
    quiet_torchvision()
    content = io.BytesIO()
    Image.fromarray(smooth_pixels(6, 9)).save(content, "png")
    path, unnoticed = Path(folder) / "a.png", []
    for place in range(len(content.getvalue())):
        changed = bytearray(content.getvalue())
        changed[place] ^= 0xFF
        path.write_bytes(changed)
        try:
            decode_image(path, 3)
        except BrokenImageError:
            continue
        unnoticed.append(place)
    return unnoticed

"""Small folders of image files."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def smooth_pixels(height: int = 24, width: int = 32, seed: int = 0) -> np.ndarray:
    """Make an RGB picture ``(H, W, 3)`` uint8 of slow waves, which JPEG keeps nearly as they are."""
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 2))
    rows, columns = np.mgrid[0:height, 0:width]
    waves = [np.sin(rows / 7 + down) + np.cos(columns / 9 + right) for down, right in phases]
    return np.stack([np.rint((wave + 2) * 63.75) for wave in waves], axis=2).astype(np.uint8)


def write_image(path: Path, pixels: np.ndarray | None = None, **options: Any) -> Path:
    """Write a picture in the format of the file's name, and make its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth_pixels() if pixels is None else pixels).save(path, **options)
    return path


def write_folder(root: Path, counts: dict[str, dict[str, int]], size: tuple[int, int] = (4, 5)) -> Path:
    """Write flat grey PNG images, each of a level of its own.

    Args:
        root: The folder.
        counts: By part, and by class, how many images; the part ``"."`` is the folder itself.
        size: Height and width.
    """
    level = 0
    for part, classes in counts.items():
        for name, count in classes.items():
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                level += 1
                write_image(root / part / name / f"{number:03}.png", np.full((*size, 3), level, dtype=np.uint8))
    return root


def write_sixteen_bit_png(path: Path, values: np.ndarray) -> Path:
    """Write ``(H, W)`` or ``(H, W, 3)`` uint16 as the PNG standard says; Pillow writes no colour of 16 bits."""
    height, width = values.shape[:2]
    colour_type = 0 if values.ndim == 2 else 2
    rows = values.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", zlib.compress(raw)), png_chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG file, with its checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

"""PNG files, decoded once every checksum in them has been found right.

In `torchvision.io` libpng leaves a damaged file by a jump that ends the process. Pillow survives it, but does not check
the sums of the image data, and leaves black what a file is short of. So the file is taken apart here and its image data
are inflated; Pillow undoes the filters alone, from data stored as they are. All this takes no longer than Pillow takes
for the whole.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_KNOWN = (b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND")
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGBA = 0, 2, 3, 4, 6  # the header's colour types
_SAMPLES = {_GREY: 1, _RGB: 3, _PALETTE: 1, _GREY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GREY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_EXIF = (b"II*\0", b"MM\0*", b"Exif\0\0")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    depth: int
    colour_type: int
    compression: int
    filters: int
    interlaced: int

    def check(self) -> None:
        depths = _DEPTHS.get(self.colour_type, (8, 16) if self.colour_type in _SAMPLES else ())
        methods = (self.compression, self.filters, self.interlaced)
        if self.depth not in depths or not self.width or not self.height or methods not in ((0, 0, 0), (0, 0, 1)):
            raise ValueError(f"the standard knows no such header: {self}")

    def count_bytes(self) -> int:
        """Return how long the image data are, inflated: in each row of each pass a byte for the filter, and pixels."""
        bits, total = self.depth * _SAMPLES[self.colour_type], 0
        for left, top, right, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -(-(self.width - left) // right), -(-(self.height - top) // down)
            total += rows * (1 + -(-columns * bits // 8)) if columns > 0 and rows > 0 else 0
        return total


def decode_png(data: bytes) -> Tensor:
    """Decode a PNG, turned upright as its EXIF data say. Of an animation it is the picture that all viewers show.

    Sixteen bits become eight by rounding to the nearest level.

    Args:
        data: The file's content.

    Returns:
        ``(3, H, W)`` uint8, or ``(4, H, W)`` if there may be transparent pixels; the last channel is their opacity.

    Raises:
        ValueError: If a part of the file is missing, a checksum is wrong, or the file is not as the standard has it.
        zlib.error: If the image data cannot be inflated.
    """
    chunks: dict[bytes, bytes] = {}
    image_data = []
    for kind, body in _checked_chunks(data):
        chunks[kind] = body
        if kind == b"IDAT":
            image_data.append(body)
    header = _Header(*struct.unpack(">IIBBBBB", chunks[b"IHDR"]))
    header.check()
    palette = _palette(chunks) if header.colour_type == _PALETTE else None
    samples = _read_samples(header, _inflated(image_data, header.count_bytes()), chunks.get(b"eXIf", b""))
    if palette is not None:
        return palette[samples[..., 0].long()].permute(2, 0, 1)
    image = _to_bytes(samples, header.depth).permute(2, 0, 1)
    if len(image) < 3:
        image = torch.cat([image[:1].expand(3, -1, -1), image[1:]])
    if b"tRNS" in chunks and header.colour_type in (_GREY, _RGB):
        transparent = struct.unpack(f">{samples.shape[-1]}H", chunks[b"tRNS"])
        opaque = (samples != torch.tensor(transparent, dtype=torch.int32)).any(-1)
        image = torch.cat([image, 255 * opaque[None].to(torch.uint8)])
    return image


def round_to_bytes(levels: Tensor) -> Tensor:
    """Make of levels from 0 to 65535, integers of 32 bits or more, the nearest uint8 ones."""
    return ((levels + 128) // 257).clamp(0, 255).to(torch.uint8)


def _checked_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and content of the chunks that decide the pixels; the header comes first, the end last."""
    place, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        start = place + 8
        length, kind = struct.unpack(">I4s", data[place:start]) if start <= len(data) else (len(data), b"")
        place = start + length + 4
        if place > len(data):
            raise ValueError("the file is cut off, or a length in it is wrong")
        name = kind.decode("latin-1")
        if zlib.crc32(data[start - 4 : place - 4]) != int.from_bytes(data[place - 4 : place], "big"):
            raise ValueError(f"the checksum of its chunk {name!r}, at byte {start - 8}, is wrong")
        if start == len(SIGNATURE) + 8 and (kind, length) != (b"IHDR", 13):
            raise ValueError(f"it begins with a chunk {name!r} of {length} bytes, and should with a header")
        if kind in _KNOWN:
            yield kind, data[start : place - 4]
        elif kind[:1].isupper():
            raise ValueError(f"the standard knows no critical chunk {name!r}")


def _inflated(image_data: list[bytes], expected: int) -> bytes:
    pixels = zlib.decompressobj().decompress(b"".join(image_data), expected)
    if len(pixels) < expected:
        raise ValueError(f"its image data are {len(pixels)} bytes, and should be {expected}")
    return pixels


def _read_samples(header: _Header, pixels: bytes, exif: bytes) -> Tensor:
    """Undo filters and interlacing: samples as the file has them, upright, ``(H, W, C)``, int32 unless of 8 bits."""
    stored = zlib.compress(pixels, 0)
    channels = _SAMPLES[header.colour_type]

    def read(mode: str, raw_mode: str) -> Tensor:
        size = (header.width, header.height)
        picture = Image.frombytes(mode, size, stored, "zip", (raw_mode, header.interlaced))
        if exif.startswith(_EXIF):
            picture.info["exif"] = exif
            ImageOps.exif_transpose(picture, in_place=True)
        samples = torch.from_numpy(np.array(picture))
        return samples[..., None] if samples.ndim == 2 else samples

    if header.depth == 8:
        return read(_MODES[channels], _MODES[channels])
    if header.depth < 8:
        return read("P", f"P;{header.depth}").to(torch.int32)
    if channels < 3:  # two bytes a sample, as if they were samples
        wide = read(_MODES[2 * channels], _MODES[2 * channels]).to(torch.int32)
        return wide[..., ::2] * 256 + wide[..., 1::2]
    # Pillow keeps the upper bytes alone; of samples that are taken for little-endian they are the lower ones
    upper, lower = (read(_MODES[channels], f"{_MODES[channels]};16{order}").to(torch.int32) for order in "BL")
    return upper * 256 + lower


def _to_bytes(samples: Tensor, depth: int) -> Tensor:
    if depth == 16:
        return round_to_bytes(samples)
    return samples if depth == 8 else (samples * (255 // (2**depth - 1))).to(torch.uint8)


def _palette(chunks: dict[bytes, bytes]) -> Tensor:
    """Return red, green, blue and opacity of each place in the palette, ``(256, 4)``; what is not in it is black."""
    colours, opacities = chunks.get(b"PLTE", b""), chunks.get(b"tRNS", b"")
    if not colours or len(colours) % 3 or len(colours) > 3 * 256 or len(opacities) > len(colours) // 3:
        raise ValueError(f"its palette has {len(colours)} bytes, and {len(opacities)} opacities")
    table = np.zeros((256, 4), dtype=np.uint8)
    table[:, 3] = 255
    table[: len(colours) // 3, :3] = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    table[: len(opacities), 3] = np.frombuffer(opacities, np.uint8)
    return torch.from_numpy(table)

"""Image files, decoded to uint8 as a viewer shows them.

JPEG goes through `torchvision.io`, and whatever else Pillow reads through Pillow; both let other threads run meanwhile.
`torchvision.io` is deprecated in favour of TorchCodec; this module is the only one that knows it.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional

from datamodules.png import SIGNATURE, decode_png, round_to_bytes

_JPEG = b"\xff\xd8\xff"
_PIECE = 64  # files that a thread takes at a time


class BrokenImageError(ValueError):
    """A file that should be an image and cannot be decoded."""


def decode_image(path: Path, channels: int) -> Tensor:
    """Decode an image, turned upright as its EXIF data say.

    Transparent pixels are laid over white, as on a page: what colour a file keeps under them is an accident. Sixteen
    bits become eight by rounding to the nearest level. Of an animation the first picture is taken.

    Args:
        path: The file, in any format that Pillow reads.
        channels: 3 for RGB; 1 for grey, which is ITU-R 601's luma of a coloured image.

    Returns:
        ``(channels, H, W)`` uint8.

    Raises:
        BrokenImageError: If the file is no image, a part of it is missing, or a checksum in it is wrong.
        OSError: If the file cannot be read.
    """
    data = path.read_bytes()
    try:
        # told apart by their first bytes: many a .png is a JPEG
        if data.startswith(_JPEG):
            return _decode_jpeg(data, channels)
        if data.startswith(SIGNATURE):
            return _to_grey(_over_white(decode_png(data)), channels)
        return _decode_with_pillow(data, channels)
    except (MemoryError, Warning):  # no fault of the file's
        raise
    except Exception as error:  # of a damaged file Pillow's readers raise whatever they trip over
        reason = str(error).strip().splitlines()
        raise BrokenImageError(f"{path} cannot be decoded: {reason[0] if reason else type(error).__name__}") from error


def fit_to_square(image: Tensor, size: int, resize_to: int | None = None) -> Tensor:
    """Resize the shorter side and cut a square from the middle.

    Args:
        image: ``(C, H, W)`` uint8.
        size: Side of the square, in pixels.
        resize_to: What the shorter side becomes first; by default ``size``.
    """
    shorter = resize_to or size
    if min(image.shape[-2:]) != shorter:
        image = functional.resize(image, [shorter], antialias=True)
    return functional.center_crop(image, [size, size]) if image.shape[-2:] != (size, size) else image


def fit_image(image: Tensor, size: int | tuple[int, int] | None) -> Tensor:
    """Give an image ``(C, H, W)`` uint8 the size asked for.

    Args:
        image: The image.
        size: Side of a square, see `fit_to_square`; height and width to which it is stretched; or None to leave it.
    """
    if size is None:
        return image
    if isinstance(size, int):
        return fit_to_square(image, size)
    return functional.resize(image, list(size), antialias=True) if image.shape[-2:] != size else image


def quiet_torchvision() -> None:
    """Leave out, in this process, torchvision's advice to use TorchCodec, and Pillow's remarks on what files hold."""
    warnings.filterwarnings("ignore", "The image decoding and encoding capabilities", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call ``work`` with every number below ``count``, on as many threads as this process may use cores."""
    quiet_torchvision()

    def piece(start: int) -> None:
        for index in range(start, min(start + _PIECE, count)):
            work(index)

    with ThreadPoolExecutor(usable_cores()) as pool:
        for _ in pool.map(piece, range(0, count, _PIECE)):
            pass


def usable_cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def find_broken(paths: Sequence[Path], channels: int) -> dict[int, str]:
    """Decode every file once, and tell of those that cannot be, by index, why."""
    broken: dict[int, str] = {}

    def check(index: int) -> None:
        try:
            decode_image(paths[index], channels)
        except BrokenImageError as error:
            broken[index] = str(error)

    in_threads(check, len(paths))
    return dict(sorted(broken.items()))


def _decode_jpeg(data: bytes, channels: int) -> Tensor:
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    mode = ImageReadMode.RGB if channels == 3 else ImageReadMode.GRAY
    image = decode_jpeg(encoded, mode, apply_exif_orientation=True)
    assert isinstance(image, Tensor)  # a list only for a list
    return image


def _decode_with_pillow(data: bytes, channels: int) -> Tensor:
    try:
        picture = Image.open(BytesIO(data))  # not the file: Pillow maps some into memory, and dies if they are cut
    except UnidentifiedImageError:
        raise ValueError("cannot identify image file, it is of no format that Pillow reads") from None
    with picture as opened:
        ImageOps.exif_transpose(opened, in_place=True)
        if opened.mode.startswith("I;16") or opened.mode == "I":
            levels = torch.from_numpy(np.asarray(opened).astype(np.int64))
            image = round_to_bytes(levels).expand(3, -1, -1)
        else:
            pixels = np.array(opened.convert("RGBA"))
            image = torch.from_numpy(pixels).permute(2, 0, 1)
    return _to_grey(_over_white(image), channels)


def _over_white(image: Tensor) -> Tensor:
    """Lay ``(4, H, W)`` uint8 over white; ``(3, H, W)`` has nothing to lay over it."""
    colour, alpha = image[:3], image[3:]
    if (alpha == 255).all():
        return colour.contiguous()
    opacity = alpha.to(torch.int32)
    return ((colour.to(torch.int32) * opacity + 255 * (255 - opacity) + 127) // 255).to(torch.uint8)


def _to_grey(image: Tensor, channels: int) -> Tensor:
    """Make of RGB what is asked for; the weights are Pillow's, and those by which JPEG keeps its luma."""
    if channels == 3:
        return image.contiguous()
    red, green, blue = image.to(torch.int32)
    return ((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).to(torch.uint8)[None]

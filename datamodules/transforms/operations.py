"""The operations of AutoAugment and its kin, each image of a batch by an operation and a magnitude of its own.

Images are uint8 here, because posterizing, solarizing and equalizing are defined on 256 levels. The results are those
of `torchvision.transforms.v2` on uint8 images, with nearest-neighbour interpolation and black where nothing is known;
Color, Contrast and Sharpness cut a float down to a level, so a last digit can move a pixel by one level.

The images of a batch are grouped by operation and each group is worked on at once; the five geometric operations are
one group. Operations and magnitudes lie on the CPU, so that grouping never waits for the device.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional

from datamodules.transforms.color import blend_each, luminance


def _adjust_brightness(levels: Tensor, change: Tensor) -> Tensor:
    return (levels * (1 + change).float()).clamp_(0, 255).to(torch.uint8)


def _adjust_color(levels: Tensor, change: Tensor) -> Tensor:
    if levels.shape[1] == 1:
        return levels
    return blend_each(levels, luminance(levels).floor(), (1 + change).float(), 255).to(torch.uint8)


def _adjust_contrast(levels: Tensor, change: Tensor) -> Tensor:
    mean = luminance(levels).floor().mean((1, 2, 3), keepdim=True)
    return blend_each(levels, mean, (1 + change).float(), 255).to(torch.uint8)


def _adjust_sharpness(levels: Tensor, change: Tensor) -> Tensor:
    channels, height, width = levels.shape[1:]
    if height <= 2 or width <= 2:
        return levels
    kernel = torch.full((3, 3), 1 / 13, device=levels.device)
    kernel[1, 1] = 5 / 13
    sharpened = levels.float()
    blurred = F.conv2d(sharpened, kernel.expand(channels, 1, 3, 3), groups=channels).round_()
    inside = sharpened[..., 1:-1, 1:-1]
    inside.add_((blurred - inside) * -change.float())
    return sharpened.clamp_(0, 255).to(torch.uint8)


def _posterize(levels: Tensor, bits: Tensor) -> Tensor:
    return levels & (256 - 2 ** (8 - bits.int())).to(torch.uint8)


def _solarize(levels: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(levels >= (255 * threshold).float(), 255 - levels, levels)


def _ignoring_magnitude(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda levels, _: function(levels)


_GEOMETRIC = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
_PHOTOMETRIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Brightness": _adjust_brightness,
    "Color": _adjust_color,
    "Contrast": _adjust_contrast,
    "Sharpness": _adjust_sharpness,
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _ignoring_magnitude(functional.autocontrast),
    "Equalize": _ignoring_magnitude(functional.equalize),
    "Invert": _ignoring_magnitude(functional.invert),
}
OPERATIONS = ("Identity", *_GEOMETRIC, *_PHOTOMETRIC)
"""Names of the operations; everywhere else an operation is its place in here."""
_SIGNED = len(_GEOMETRIC) + 4


@lru_cache
def magnitude_table(bins: int, image_size: tuple[int, int], wide: bool) -> Tensor:
    """Magnitudes of the operations from the weakest to the strongest, as torchvision has them.

    Args:
        bins: Number of magnitudes, 2 or more.
        image_size: Height and width of the images in pixels.
        wide: The ranges of TrivialAugment Wide, instead of those of AutoAugment.

    Returns:
        ``(operations, bins)`` float64, 0 for operations that have none.
    """
    height, width = image_size
    shear, angle, photometric, posterized = (0.99, 135.0, 0.99, 6) if wide else (0.3, 30.0, 0.9, 4)
    across, down = (32.0, 32.0) if wide else (150 / 331 * width, 150 / 331 * height)
    strongest = dict(zip(_GEOMETRIC, (shear, shear, across, down, angle), strict=True))
    strongest |= dict.fromkeys(("Brightness", "Color", "Contrast", "Sharpness"), photometric)
    rows = {name: torch.linspace(0, value, bins) for name, value in strongest.items()}
    rows["Posterize"] = (8 - torch.arange(bins) / ((bins - 1) / posterized)).round()
    rows["Solarize"] = torch.linspace(1, 0, bins)
    return torch.stack([rows.get(name, torch.zeros(bins)) for name in OPERATIONS]).double()


def draw_signs(operation: Tensor) -> Tensor:
    """Draw -1 or 1 for those operations that go both ways, 1 for the others: from ``(N,)`` to ``(N,)``."""
    both_ways = (operation > 0) & (operation <= _SIGNED)
    return 1 - 2.0 * (both_ways & (torch.rand(len(operation)) <= 0.5))


def apply_each(levels: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
    """Apply to each image an operation of its own.

    Args:
        levels: ``(N, C, H, W)`` uint8, of 1 or 3 channels.
        operation: Places in `OPERATIONS`, ``(N,)`` int64 on the CPU.
        magnitude: ``(N,)`` float64 on the CPU: shears as tangents, shifts in pixels, angles in degrees, factors less
            1, bits for Posterize, the threshold from 0 to 1 for Solarize.

    Returns:
        Images ``(N, C, H, W)`` uint8.
    """
    levels = levels.clone()
    geometric = (operation > 0) & (operation <= len(_GEOMETRIC))
    if rows := geometric.nonzero().flatten().tolist():
        on_device = torch.tensor(rows, device=levels.device)
        size = (levels.shape[-2], levels.shape[-1])
        matrices = inverse_matrices(operation[rows], magnitude[rows], size)
        levels[on_device] = _warp(levels[on_device], matrices.to(levels.device))
    for place, apply in enumerate(_PHOTOMETRIC.values(), start=1 + len(_GEOMETRIC)):
        if rows := (operation == place).nonzero().flatten().tolist():
            on_device = torch.tensor(rows, device=levels.device)
            strength = magnitude[rows].view(-1, 1, 1, 1).to(levels.device)
            levels[on_device] = apply(levels[on_device], strength)
    return levels


def inverse_matrices(operation: Tensor, magnitude: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Say where each pixel comes from, in pixels from the centre of the image.

    Shears hold the upper left corner fast, as in the paper; rotations turn counter-clockwise about the centre.

    Args:
        operation: Geometric operations as places in `OPERATIONS`, ``(N,)``.
        magnitude: ``(N,)`` float64.
        image_size: Height and width of the images in pixels.

    Returns:
        ``(N, 2, 3)`` float32, from the ``(x, y, 1)`` of a pixel to the ``(x, y)`` of its source.
    """
    height, width = image_size
    magnitudes = (torch.where(operation == OPERATIONS.index(name), magnitude, 0) for name in _GEOMETRIC)
    shear_x, shear_y, right, down, degrees = magnitudes
    angle = degrees * (math.pi / 180)
    cos, sin = angle.cos(), angle.sin()
    x = [cos, shear_x - sin, shear_x * height / 2 - right.trunc()]
    y = [shear_y + sin, cos, shear_y * width / 2 - down.trunc()]
    return torch.stack([torch.stack(x, -1), torch.stack(y, -1)], 1).float()


def _warp(levels: Tensor, matrices: Tensor) -> Tensor:
    height, width = levels.shape[-2:]
    x = torch.arange(width, device=levels.device) - (width - 1) / 2
    y = torch.arange(height, device=levels.device) - (height - 1) / 2
    across, down = torch.meshgrid(x, y, indexing="xy")
    pixels = torch.stack([across, down, torch.ones_like(across)], -1)
    sources = pixels.view(-1, 3) @ (matrices / torch.tensor([[width / 2], [height / 2]], device=levels.device)).mT
    grid = sources.view(-1, height, width, 2)
    return F.grid_sample(levels.float(), grid, "nearest", "zeros", align_corners=False).round_().to(torch.uint8)

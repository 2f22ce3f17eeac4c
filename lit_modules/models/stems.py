"""The first layers of residual networks, which take images in."""

from torch import nn

from lit_modules.models.parts import Parts
from lit_modules.models.pooling import BlurPool

STEMS = ("imagenet", "small")


def make_stem_convolution(stem: str, in_channels: int, width: int, deep: bool, parts: Parts) -> nn.Module:
    """Make all of the stem that comes before its last norm."""
    stride = 2 if stem == "imagenet" else 1
    if not deep:
        return parts.make_square(7 if stem == "imagenet" else 3, in_channels, width, stride)
    half = max(width // 2, 1)
    return nn.Sequential(
        parts.make_square(3, in_channels, half, stride),
        parts.make_norm(half),
        parts.make_activation(half),
        parts.make_square(3, half, half),
        parts.make_norm(half),
        parts.make_activation(half),
        parts.make_square(3, half, width),
    )


def make_stem_pool(stem: str, parts: Parts) -> nn.Module:
    """Make the max pool after the stem's activation; it alone is blurred, as in arXiv:1904.11486."""
    if stem == "small":
        return nn.Identity()
    if parts.blur_pool:
        return nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), BlurPool(2))
    return nn.MaxPool2d(3, stride=2, padding=1)

"""Changes of colour, each image of a batch by a factor of its own.

The functions agree with those of `torchvision.transforms.v2.functional`, which take one factor for all images.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_LUMINANCE = (0.2989, 0.587, 0.114)


def luminance(images: Tensor) -> Tensor:
    """Map images ``(N, 3, H, W)``, or grey ones, to grey ones ``(N, 1, H, W)`` in float.

    Raises:
        ValueError: If the images have neither 1 nor 3 channels.
    """
    channels = images.shape[1]
    if channels not in (1, 3):
        raise ValueError(f"Colour is known of images with 3 channels, or 1 if grey, not with {channels}.")
    if channels == 1:
        return images if images.is_floating_point() else images.float()
    red, green, blue = (weight * channel for weight, channel in zip(_LUMINANCE, images.split(1, 1), strict=True))
    return red + green + blue


def blend_each(images: Tensor, others: Tensor, factor: Tensor, bound: float = 1.0) -> Tensor:
    """Go from ``others`` towards ``images``, and past them where the factor is above 1.

    Args:
        images: ``(N, C, H, W)``, values from 0 to ``bound``.
        others: What factor 0 gives, of a shape that broadcasts.
        factor: ``(N,)``, 0 or more.
        bound: Largest value.

    Returns:
        ``(N, C, H, W)`` float, cut to the range from 0 to ``bound``.
    """
    factor = factor.view(-1, 1, 1, 1)
    return (images * factor + others * (1 - factor)).clamp_(0, bound)


def adjust_brightness_each(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply images ``(N, C, H, W)`` by factors ``(N,)``."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast_each(images: Tensor, factor: Tensor) -> Tensor:
    """Spread images ``(N, C, H, W)`` by factors ``(N,)`` about their mean luminance."""
    return blend_each(images, luminance(images).mean((1, 2, 3), keepdim=True), factor)


def adjust_saturation_each(images: Tensor, factor: Tensor) -> Tensor:
    """Take images ``(N, 3, H, W)`` away from grey by factors ``(N,)``."""
    return blend_each(images, luminance(images), factor)


def adjust_hue_each(images: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue of images ``(N, 3, H, W)`` by ``(N,)`` shares of the colour circle, -0.5 to 0.5."""
    red, green, blue = images.unbind(1)
    low, high = images.amin(1), images.amax(1)
    spread = high - low
    divisor = torch.where(spread == 0, 1, spread)
    green_most = (blue - red) / divisor + 2
    sixths = torch.where(high == green, green_most, (red - green) / divisor + 4)
    sixths = torch.where(high == red, (green - blue) / divisor, sixths) + 6 * shift.view(-1, 1, 1)
    # Each channel falls from `high` to `low` and back in turn, as the hue goes round.
    place = torch.stack([(sixths + start) % 6 for start in (5, 3, 1)], 1)
    ramp = torch.minimum(place, 4 - place).clamp_(0, 1)
    return (high[:, None] - spread[:, None] * ramp).clamp_(0, 1)


Adjustment = Callable[[Tensor, Tensor], Tensor]
_ADJUSTMENTS: tuple[Adjustment, ...] = (
    adjust_brightness_each,
    adjust_contrast_each,
    adjust_saturation_each,
    adjust_hue_each,
)


class BatchColorJitter(nn.Module):
    """Change brightness, contrast, saturation and hue of each image of a batch, in an order of its own.

    The draws are those of torchvision's ``v2.ColorJitter``: factors uniform, the order of the four random. Factors and
    orders are drawn on the CPU, so that no step waits for the device to say which images take which change.

    Example::

        BatchColorJitter(0.4, 0.4, 0.4)(torch.rand(128, 3, 32, 32))

    Args:
        brightness: Factors are from ``1 - brightness`` to ``1 + brightness``.
        contrast: Likewise.
        saturation: Likewise; 0 for grey images.
        hue: Shifts are from ``-hue`` to ``hue`` of the colour circle, at most 0.5; 0 for grey images.

    Raises:
        ValueError: If a strength is out of range; on the first batch, if grey images are to change colour.
    """

    def __init__(
        self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0, hue: float = 0.0
    ) -> None:
        super().__init__()
        self.strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
        problems = [
            f"{name}={value} must be between 0 and {0.5 if name == 'hue' else 1}"
            for name, value in self.strengths.items()
            if not 0 <= value <= (0.5 if name == "hue" else 1)
        ]
        if problems:
            raise ValueError(f"BatchColorJitter: {'; '.join(problems)}.")

    def forward(self, images: Tensor) -> Tensor:
        if images.shape[1] == 1 and (self.strengths["saturation"] or self.strengths["hue"]):
            raise ValueError(
                f"BatchColorJitter({self.extra_repr()}): grey images have no saturation and no hue; set 0."
            )
        strengths = torch.tensor(list(self.strengths.values()))
        factors = (2 * torch.rand(len(images), 4) - 1) * strengths + torch.tensor([1.0, 1.0, 1.0, 0.0])
        orders = torch.rand(len(images), 4).argsort(1)
        on_device = factors.to(images.device, images.dtype)
        images = images.clone()
        for order in orders.unbind(1):
            for kind in strengths.nonzero().flatten().tolist():
                rows = (order == kind).nonzero().flatten().to(images.device)
                images[rows] = _ADJUSTMENTS[kind](images[rows], on_device[rows, kind])
        return images

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.strengths.items())

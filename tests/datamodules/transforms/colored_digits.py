"""The digits with a colour for each, for what needs three channels."""

import torch

from datamodules import Digits, InMemoryImages


class ColoredDigits(Digits):
    """Digits in random colours, 3 x 8 x 8."""

    image_shape = (3, 8, 8)

    def load(self) -> InMemoryImages:
        grey = super().load()
        tints = torch.rand(len(grey), 3, 1, 1, generator=torch.Generator().manual_seed(0))
        return InMemoryImages((grey.images * tints).to(torch.uint8), grey.targets)

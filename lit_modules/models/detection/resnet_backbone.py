"""A residual network as a detector's backbone."""

import torch
from torch import Tensor, nn

from lit_modules.models.resnet import ResNet

_PROBE_SIDE = 64  # a multiple of the coarsest stride that a ResNet has


class ResNetBackbone(nn.Module):
    """Hands on the feature maps of a ResNet's last three stages; pooling and last layer are taken off.

    Example::

        resnet = ResNet(num_classes=1, layers=[3, 4, 6, 3], block="bottleneck", stride_in_3x3=True)
        YOLOv3(num_classes=20, backbone=ResNetBackbone(resnet))

    Args:
        resnet: The network; its number of classes does not matter.

    Attributes:
        scale_channels: Channels of the feature maps, finest first.
        scale_strides: Pixels of the image for one of each feature map.
    """

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        resnet.pool, resnet.dropout, resnet.fc = nn.Identity(), nn.Identity(), nn.Identity()  # type: ignore[assignment]
        self.resnet = resnet
        in_channels = next(module.in_channels for module in resnet.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            maps = self.eval()(torch.zeros(1, in_channels, _PROBE_SIDE, _PROBE_SIDE))
        self.train()
        self.scale_channels = tuple(features.shape[1] for features in maps)
        self.scale_strides = tuple(_PROBE_SIDE // features.shape[-1] for features in maps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map images ``(N, in_channels, H, W)`` to feature maps, finest first."""
        return self.resnet.forward_stages(images)[-3:]

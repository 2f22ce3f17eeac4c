"""YOLOv3 (Redmon and Farhadi 2018, arXiv:1804.02767): one network pass finds all boxes of an image."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.detection.anchors import PAPER_ANCHORS, PAPER_INPUT, scale_anchors
from lit_modules.models.detection.darknet import ConvolutionNormActivation, Darknet, initialise
from lit_modules.models.detection.grid import Grid, YOLOOutputs


class YOLOv3(nn.Module):
    """Finds boxes on three scales: each coarser feature map is brought up and joined to the finer one, as in an FPN.

    Train it with `YOLOv3Loss`, and let `YOLODetections` make boxes of its outputs.

    Example::

        network = YOLOv3(num_classes=80)
        small = YOLOv3(num_classes=3, backbone=Darknet(layers=[1, 1, 1, 1, 1], width=8), input_size=320)

    Args:
        num_classes: Number of classes.
        backbone: Maps images to feature maps, finest first, with ``scale_channels`` and ``scale_strides``, each stride
            twice the one before. None is Darknet-53.
        anchors: Widths and heights in pixels of the input, those of the finest scale first, equally many for each
            scale. None are the paper's, scaled from 416 to ``input_size``.
        input_size: Side in pixels of the images that the paper's anchors are scaled to; others are accepted, too.
        objectness_prior: Objectness of every slot before training; 0.01 spares the first steps (arXiv:1708.02002).

    Raises:
        ValueError: If an argument is out of range or, when images come, their sides are not multiples of the coarsest
            stride.
    """

    anchors: Tensor

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Module | None = None,
        anchors: list[tuple[float, float]] | None = None,
        input_size: int = PAPER_INPUT,
        objectness_prior: float = 0.5,
    ) -> None:
        super().__init__()
        backbone = Darknet() if backbone is None else backbone
        channels: Sequence[int] = backbone.scale_channels  # type: ignore[assignment]  # nn.Module types all as Tensor
        strides: Sequence[int] = backbone.scale_strides  # type: ignore[assignment]
        if anchors is None:
            anchors = scale_anchors(PAPER_ANCHORS, input_size / PAPER_INPUT)
        _check_arguments(num_classes, anchors, input_size, objectness_prior, strides)
        self.num_classes = num_classes
        self.strides = tuple(strides)
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)

        outputs = len(anchors) // len(strides) * (5 + num_classes)
        self.necks, self.heads, self.laterals = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        above = 0
        for width in reversed(channels):  # coarsest first: that is the way of the data
            half = width // 2
            self.laterals.append(ConvolutionNormActivation(above, above // 2, 1) if above else nn.Identity())
            self.necks.append(_make_neck(width + above // 2, half))
            self.heads.append(nn.Sequential(ConvolutionNormActivation(half, width, 3), nn.Conv2d(width, outputs, 1)))
            above = half
        initialise(self)
        self._initialise_outputs(objectness_prior)
        self.backbone = backbone  # after the others were drawn: it has its own initial weights

    def forward(self, images: Tensor) -> YOLOOutputs:
        """Map images ``(N, C, H, W)`` to the outputs of all slots."""
        coarsest = self.strides[-1]
        height, width = images.shape[-2:]
        if height % coarsest or width % coarsest:
            raise ValueError(f"YOLOv3: images are {width}×{height} pixels; both sides must be multiples of {coarsest}.")
        maps = self.backbone(images)
        found: list[Tensor] = []
        above: Tensor | None = None
        for features, lateral, neck, head in zip(reversed(maps), self.laterals, self.necks, self.heads, strict=True):
            if above is not None:
                features = torch.cat([F.interpolate(lateral(above), scale_factor=2, mode="nearest"), features], 1)
            above = neck(features)
            found.insert(0, head(above))
        shapes = [(output.shape[2], output.shape[3]) for output in found]
        raw = torch.cat([self._flatten(output) for output in found], 1)
        return YOLOOutputs(raw.float(), Grid.make(shapes, self.strides, self.anchors))

    def _flatten(self, output: Tensor) -> Tensor:
        """Map ``(N, anchors * (5 + K), H, W)`` to ``(N, H * W * anchors, 5 + K)``."""
        return output.permute(0, 2, 3, 1).reshape(len(output), -1, 5 + self.num_classes)

    def _initialise_outputs(self, objectness_prior: float) -> None:
        for head in self.heads:
            last = head.get_submodule("1")
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            prior = torch.tensor(objectness_prior).logit()
            with torch.no_grad():
                last.bias.view(-1, 5 + self.num_classes)[:, 4] = prior


def _make_neck(in_channels: int, channels: int) -> nn.Sequential:
    """Five convolutions, 1×1 and 3×3 in turn, from ``in_channels`` to ``channels``."""
    wide = 2 * channels
    return nn.Sequential(
        ConvolutionNormActivation(in_channels, channels, 1),
        ConvolutionNormActivation(channels, wide, 3),
        ConvolutionNormActivation(wide, channels, 1),
        ConvolutionNormActivation(channels, wide, 3),
        ConvolutionNormActivation(wide, channels, 1),
    )


def _check_arguments(
    num_classes: int,
    anchors: Sequence[Sequence[float]],
    input_size: int,
    objectness_prior: float,
    strides: Sequence[int],
) -> None:
    problems = []
    if num_classes < 1:
        problems.append(f"num_classes is {num_classes}; it must be at least 1.")
    if input_size < strides[-1] or input_size % strides[-1]:
        problems.append(f"input_size is {input_size}; it must be a multiple of {strides[-1]}.")
    if not 0 < objectness_prior < 1:
        problems.append(f"objectness_prior is {objectness_prior}; it must be above 0 and below 1.")
    if not anchors or len(anchors) % len(strides):
        problems.append(
            f"there are {len(anchors)} anchors; there must be equally many for each of {len(strides)} scales."
        )
    if any(len(anchor) != 2 or min(anchor) <= 0 for anchor in anchors):
        problems.append(
            f"anchors are {[tuple(anchor) for anchor in anchors]}; each must be a width and a height above 0."
        )
    if any(finer * 2 != coarser for finer, coarser in pairwise(strides)):
        problems.append(f"the backbone's scale_strides are {tuple(strides)}; each must be twice the one before.")
    if problems:
        raise ValueError("YOLOv3: " + " ".join(problems))

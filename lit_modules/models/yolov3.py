"""YOLOv3 (Redmon and Farhadi 2018, arXiv:1804.02767): one network pass finds all boxes of an image."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from lit_modules.models.detection.anchors import PAPER_ANCHORS, PAPER_INPUT, scale_anchors
from lit_modules.models.detection.aspp import ContextCallable
from lit_modules.models.detection.darknet import ConvolutionNormActivation, Darknet, initialise
from lit_modules.models.detection.grid import Grid, YOLOOutputs
from lit_modules.models.detection.necks import FPN, NeckCallable


class YOLOv3(nn.Module):
    """Finds boxes on three scales: each coarser feature map is brought up and joined to the finer one, as in an FPN.

    Train it with `YOLOv3Loss`, and let `YOLODetections` make boxes of its outputs.

    Example::

        network = YOLOv3(num_classes=80)
        small = YOLOv3(num_classes=3, backbone=Darknet(layers=[1, 1, 1, 1, 1], width=8), input_size=320)

    Args:
        num_classes: Number of classes.
        backbone: Maps images to feature maps, finest first, with ``scale_channels`` and ``scale_strides``, each stride
            that of the map before or twice that. None is Darknet-53.
        anchors: Widths and heights in pixels of the input, those of the finest scale first, equally many for each
            scale. None are the paper's, scaled from 416 to ``input_size``.
        input_size: Side in pixels of the images that the paper's anchors are scaled to; others are accepted, too.
        objectness_prior: Objectness of every slot before training; 0.01 spares the first steps (arXiv:1708.02002).
        neck: Makes what joins the feature maps, from their channels and strides. None is `FPN`, the paper's.
        context: Makes what widens the view of the coarsest map, such as `ASPP`, from its channels. None is nothing.
        anchor_level: Predict from this map alone, with all anchors, as the pyramid's ablation does (arXiv:1612.03144,
            table 1f); 0 is the finest. None predicts from all maps.
        box_variances: Predict variances of x, y, log width and log height, too (arXiv:1904.04620), for
            `GaussianBoxLoss`.

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
        neck: NeckCallable | None = None,
        context: ContextCallable | None = None,
        anchor_level: int | None = None,
        box_variances: bool = False,
    ) -> None:
        super().__init__()
        backbone = Darknet() if backbone is None else backbone
        channels: Sequence[int] = backbone.scale_channels  # type: ignore[assignment]  # nn.Module types all as Tensor
        strides: Sequence[int] = backbone.scale_strides  # type: ignore[assignment]
        if anchors is None:
            anchors = scale_anchors(PAPER_ANCHORS, input_size / PAPER_INPUT)
        _check_arguments(num_classes, anchors, input_size, objectness_prior, strides, anchor_level)
        self.num_classes = num_classes
        self.first_level = anchor_level or 0
        self.coarsest_stride = strides[-1]
        used = strides[self.first_level :]
        self.strides = tuple(used if anchor_level is None else used[:1])
        self.box_variances = box_variances
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32), persistent=False)

        self.context = nn.Identity() if context is None else context(channels[-1])
        self.neck = (FPN if neck is None else neck)(channels[self.first_level :], used)
        if anchor_level is not None and not self.neck.joins_all:
            raise ValueError(
                f"YOLOv3: anchor_level is {anchor_level}, but the neck is {type(self.neck).__name__}, which does not "
                f"join all maps into one. Use FPN, or leave out anchor_level."
            )
        outputs = len(anchors) // len(self.strides) * self._slot_width
        self.heads = nn.ModuleList(
            nn.Sequential(ConvolutionNormActivation(width, 2 * width, 3), nn.Conv2d(2 * width, outputs, 1))
            for width in self.neck.out_channels[: len(self.strides)]
        )
        initialise(self)
        self._initialise_outputs(objectness_prior)
        self.backbone = backbone  # after the others were drawn: it has its own initial weights

    def forward(self, images: Tensor) -> YOLOOutputs:
        """Map images ``(N, C, H, W)`` to the outputs of all slots."""
        height, width = images.shape[-2:]
        if height % self.coarsest_stride or width % self.coarsest_stride:
            raise ValueError(
                f"YOLOv3: images are {width}×{height} pixels; both sides must be multiples of {self.coarsest_stride}."
            )
        maps = self.backbone(images)
        maps[-1] = self.context(maps[-1])
        joined = self.neck(maps[self.first_level :])[: len(self.heads)]
        found = [head(features) for head, features in zip(self.heads, joined, strict=True)]
        shapes = [(output.shape[2], output.shape[3]) for output in found]
        flat = torch.cat([self._flatten(output) for output in found], 1).float()
        grid = Grid.make(shapes, self.strides, self.anchors)
        if not self.box_variances:
            return YOLOOutputs(flat, grid)
        return YOLOOutputs(flat[..., :-4], grid, flat[..., -4:])

    @property
    def _slot_width(self) -> int:
        return 5 + self.num_classes + (4 if self.box_variances else 0)

    def _flatten(self, output: Tensor) -> Tensor:
        """Map ``(N, anchors * slot width, H, W)`` to ``(N, H * W * anchors, slot width)``."""
        return output.permute(0, 2, 3, 1).reshape(len(output), -1, self._slot_width)

    def _initialise_outputs(self, objectness_prior: float) -> None:
        for head in self.heads:
            last = head.get_submodule("1")
            assert isinstance(last, nn.Conv2d) and last.bias is not None
            nn.init.normal_(last.weight, std=0.01)
            prior = torch.tensor(objectness_prior).logit()
            with torch.no_grad():
                last.bias.view(-1, self._slot_width)[:, 4] = prior


def _check_arguments(
    num_classes: int,
    anchors: Sequence[Sequence[float]],
    input_size: int,
    objectness_prior: float,
    strides: Sequence[int],
    anchor_level: int | None,
) -> None:
    problems = []
    scales = len(strides) if anchor_level is None else 1
    if anchor_level is not None and not 0 <= anchor_level < len(strides):
        problems.append(f"anchor_level is {anchor_level}; it must be from 0 to {len(strides) - 1}.")
    if num_classes < 1:
        problems.append(f"num_classes is {num_classes}; it must be at least 1.")
    if input_size < strides[-1] or input_size % strides[-1]:
        problems.append(f"input_size is {input_size}; it must be a multiple of {strides[-1]}.")
    if not 0 < objectness_prior < 1:
        problems.append(f"objectness_prior is {objectness_prior}; it must be above 0 and below 1.")
    if not anchors or len(anchors) % scales:
        problems.append(f"there are {len(anchors)} anchors; there must be equally many for each of {scales} scales.")
    if any(len(anchor) != 2 or min(anchor) <= 0 for anchor in anchors):
        problems.append(
            f"anchors are {[tuple(anchor) for anchor in anchors]}; each must be a width and a height above 0."
        )
    if any(coarser not in (finer, 2 * finer) for finer, coarser in pairwise(strides)):
        problems.append(
            f"the backbone's scale_strides are {tuple(strides)}; each must be the one before or twice that."
        )
    if problems:
        raise ValueError("YOLOv3: " + " ".join(problems))

"""Several copies of a network's end, each of which looks at the image in stripes of another height."""

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.branch import Branch
from lit_modules.models.part_features import MakeLastLayer, Reduction, pool_stripes
from lit_modules.models.pooling import BlurPool
from lit_modules.models.resnet import ResNet


class MultiGranularity(nn.Module):
    """A network whose end is there once for each granularity (MGN; Wang et al. 2018, arXiv:1804.01438).

    What comes after the first block of the last but one stage is copied. Each copy gives a feature of the whole image
    and, if its granularity is above 1, one of each of so many stripes, all by maximum pooling and reduced; copies with
    stripes keep the resolution in their last stage. The identity loss of a whole image acts on what is not reduced yet.

    Example::

        LitRetriever(network, branches=MultiGranularity, ...)

    Args:
        network: The network; its last layer and pooling are not used.
        make_last_layer: Makes a last layer from the length of a feature and the number of classes.
        granularities: Number of stripes of each copy.
        width: Length of each feature.

    Raises:
        ValueError: If there is no granularity, one is below 1 or the width is; if the network has a neck or fewer than
            two stages; on the first batch, if the last feature maps are lower than the stripes are many.
    """

    def __init__(
        self,
        network: ResNet,
        make_last_layer: MakeLastLayer,
        granularities: Sequence[int] = (1, 2, 3),
        width: int = 256,
    ) -> None:
        super().__init__()
        stages = [name for name, _ in network.named_children() if name.startswith("layer")]
        problems = []
        if not granularities or min(granularities) < 1 or width < 1:
            problems.append(f"granularities={list(granularities)} and width={width} must be at least 1")
        if not isinstance(network.neck, nn.Identity):
            problems.append("its features are reduced, so there is no place for a neck: leave it out")
        if len(stages) < 2:
            problems.append(f"the network has {len(stages)} stage, and it takes two to be cut between them")
        if problems:
            raise ValueError(f"MultiGranularity: {'; '.join(problems)}.")
        *first, cut, last = (network.get_submodule(name) for name in stages)
        assert isinstance(cut, nn.Sequential)  # of blocks, as all stages are
        self.trunk = nn.Sequential(network.conv1, network.bn1, network.act1, network.maxpool, *first, cut[:1])
        self.num_classes = network.num_classes
        self.num_global_features = width * len(granularities)
        self.ends = nn.ModuleList(
            End(copy.deepcopy(nn.Sequential(cut[1:], last)), network, make_last_layer, stripes, width)
            for stripes in granularities
        )

    def embed(self, images: Tensor) -> list[Branch]:
        """Map images ``(N, C, H, W)`` to the branches of all copies, each copy's whole image first."""
        maps = self.trunk(images)
        return [branch for end in self.ends for branch in end(maps)]


class End(nn.Module):
    """One copy of a network's end, with what follows it.

    Args:
        stages: The copy.
        network: The network that it is of.
        make_last_layer: As in `MultiGranularity`.
        stripes: Its granularity.
        width: Length of each feature.
    """

    def __init__(
        self, stages: nn.Sequential, network: ResNet, make_last_layer: MakeLastLayer, stripes: int, width: int
    ) -> None:
        super().__init__()
        channels = network.num_features
        self.stages = stages
        self.stripes = stripes
        if stripes > 1:
            keep_resolution(stages[-1])
        parts = 0 if stripes == 1 else stripes
        self.reductions = nn.ModuleList(Reduction(channels, width) for _ in range(1 + parts))
        lengths = [channels, *[width] * parts]
        self.last_layers = nn.ModuleList(make_last_layer(length, network.num_classes) for length in lengths)

    def forward(self, maps: Tensor) -> list[Branch]:
        """Map the trunk's feature maps to the branch of the whole image and those of the stripes."""
        maps = self.stages(maps)
        whole = F.adaptive_max_pool2d(maps, 1).flatten(1)
        feature = self.reductions[0](whole)
        branches = [Branch(feature, feature, self.last_layers[0](whole))]
        if self.stripes > 1:
            parts = zip(pool_stripes(maps, self.stripes, _max_pool), self.reductions[1:], strict=True)
            for (stripe, reduce), last_layer in zip(parts, self.last_layers[1:], strict=True):
                feature = reduce(stripe)
                branches.append(Branch(feature, feature, last_layer(feature), is_global=False))
        return branches


def keep_resolution(stage: nn.Module) -> None:
    """Take the strides out of a stage of residual blocks; it is changed."""
    for parent in list(stage.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Conv2d):
                child.stride = (1, 1)
            elif isinstance(child, nn.AvgPool2d | BlurPool):
                setattr(parent, name, nn.Identity())


def _max_pool(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.adaptive_max_pool2d(maps, size)

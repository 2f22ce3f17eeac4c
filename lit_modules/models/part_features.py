"""Features of horizontal stripes of an image, beside that of the whole."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from lit_modules.models.branch import Branch
from lit_modules.models.resnet import ResNet

MakeLastLayer = Callable[[int, int], nn.Linear]


class Reduction(nn.Sequential):
    """A linear layer without bias, batch norm and ReLU, from long vectors to short ones.

    Args:
        in_features: Length of the vectors.
        width: Length that they get.
    """

    def __init__(self, in_features: int, width: int) -> None:
        super().__init__(nn.Linear(in_features, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(inplace=True))


def pool_stripes(maps: Tensor, stripes: int, pool: Callable[[Tensor, tuple[int, int]], Tensor]) -> list[Tensor]:
    """Cut feature maps into stripes of equal height and pool each to a vector.

    Args:
        maps: ``(N, C, H, W)``.
        stripes: Their number S.
        pool: Pools maps to a height and width, such as `torch.nn.functional.adaptive_avg_pool2d`.

    Returns:
        S vectors ``(N, C)``, from top to bottom.

    Raises:
        ValueError: If the maps are lower than S.
    """
    if maps.shape[2] < stripes:
        raise ValueError(
            f"The network's last feature maps are {maps.shape[2]} high, which cannot be cut into {stripes} stripes. "
            f"Use fewer stripes, larger images, or keep the resolution in the last stage."
        )
    return list(pool(maps, (stripes, 1)).squeeze(3).unbind(2))


class PartFeatures(nn.Module):
    """A network with a feature and a last layer for each of some stripes, beside its own (PCB; arXiv:1711.09349).

    Each stripe of the last feature map is averaged and reduced, and learns to tell identities apart by itself. The
    image's feature is the network's own and, behind it, those of the stripes from top to bottom.

    Example::

        LitRetriever(network, branches=partial(PartFeatures, parts=4), ...)

    Args:
        network: The network.
        make_last_layer: Makes a last layer from the length of a feature and the number of classes.
        parts: Number of stripes.
        width: Length of a stripe's feature.

    Raises:
        ValueError: If there are fewer than two stripes or the width is below 1; on the first batch, if the last feature
            maps are lower than the stripes are many.
    """

    def __init__(self, network: ResNet, make_last_layer: MakeLastLayer, parts: int = 6, width: int = 256) -> None:
        super().__init__()
        if parts < 2 or width < 1:
            raise ValueError(f"PartFeatures: parts={parts} must be at least 2 and width={width} at least 1.")
        self.network = network
        self.num_classes = network.num_classes
        self.num_global_features = network.num_global_features
        self.reductions = nn.ModuleList(Reduction(network.num_features, width) for _ in range(parts))
        self.last_layers = nn.ModuleList(make_last_layer(width, network.num_classes) for _ in range(parts))

    def embed(self, images: Tensor) -> list[Branch]:
        """Map images ``(N, C, H, W)`` to the network's own branch and one for each stripe."""
        maps = self.network.forward_features(images)
        branches = [self.network.pool_features(maps)]
        stripes = pool_stripes(maps, len(self.reductions), F.adaptive_avg_pool2d)
        for stripe, reduce, last_layer in zip(stripes, self.reductions, self.last_layers, strict=True):
            feature = reduce(stripe)
            branches.append(Branch(feature, feature, last_layer(feature), is_global=False))
        return branches

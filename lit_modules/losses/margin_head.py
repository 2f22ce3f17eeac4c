"""Last layers with a margin: they score by the angle between features and class weights, and make training harder.

The margin is taken from the score of the right class before the loss sees it, so it is the layer's matter and not the
loss's: label smoothing, focal loss and mining stack with it, and the class weights are stored, averaged and decayed
with the rest of the network. pytorch-metric-learning has these margins as losses that own the class weights; none of
this would work with them, so they are the reference of the tests only.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class MarginHead(nn.Linear):
    """Base of the last layers whose scores are cosines times magnitudes: a linear layer without bias.

    Without targets there is no margin. In a network that hands on features alone, targets are set from outside.

    Example::

        scores = head(features, labels)  # in training
        with head.aim(labels):
            scores = network(images)  # the same, for a head that is the last layer of a network
        scores = head(features)  # in evaluation

    Args:
        in_features: Length D of the features.
        num_classes: Number K of classes.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, bias=False)
        self._targets: Tensor | None = None

    @contextmanager
    def aim(self, targets: Tensor) -> Iterator[None]:
        """Use these targets wherever the layer is called without any."""
        self._targets = targets
        try:
            yield
        finally:
            self._targets = None

    def forward(self, features: Tensor, targets: Tensor | None = None) -> Tensor:
        """Map features ``(N, D)`` and, in training, labels ``(N,)`` to scores ``(N, K)`` in float32.

        Raises:
            ValueError: If the targets are not labels but the layer has a margin.
        """
        targets = self._targets if targets is None else targets
        with torch.autocast(features.device.type, enabled=False):  # half precision cannot tell small angles apart
            features, weight = features.float(), self.weight.float()
            cosines = F.linear(F.normalize(features), F.normalize(weight))
            if targets is not None:
                cosines = self.lower(cosines, targets)
            return cosines * self.magnitudes(features, weight)

    def lower(self, cosines: Tensor, targets: Tensor) -> Tensor:
        """Return the cosines ``(N, K)`` with the margin taken from those of the labels."""
        if targets.ndim != 1:
            raise ValueError(
                f"{type(self).__name__}: targets have the shape {tuple(targets.shape)}, but a margin needs one label a "
                f"sample, (N,). Leave out mixup and cutmix, or use NormFace, which has no margin."
            )
        places = targets.unsqueeze(1)
        return cosines.scatter(1, places, self.add_margin(cosines.gather(1, places)))

    def add_margin(self, cosines: Tensor) -> Tensor:
        """Map the cosines of the labels to lower ones, of the same shape."""
        raise NotImplementedError

    def magnitudes(self, features: Tensor, weight: Tensor) -> Tensor | float:
        """Return what the cosines of features ``(N, D)`` and class weights ``(K, D)`` are multiplied by."""
        raise NotImplementedError


HeadCallable = Callable[[int, int], MarginHead]


def replace_last_layer(network: nn.Module, head: HeadCallable) -> None:
    """Put a head in the place of a network's last linear layer.

    Args:
        network: The network; it is changed.
        head: Makes the layer from the length of the features and the number of classes.

    Raises:
        ValueError: If no part of the network is a linear layer.
    """
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, nn.Linear) and name}
    if not layers:
        raise ValueError(f"{type(network).__name__} has no linear layer whose place a head with a margin could take.")
    name, last = list(layers.items())[-1]
    network.set_submodule(name, head(last.in_features, last.out_features))


def find_heads(network: nn.Module) -> list[MarginHead]:
    """Return the heads with a margin that a network has."""
    return [layer for layer in network.modules() if isinstance(layer, MarginHead)]


def smallest_scale(num_classes: int, probability: float = 0.9999) -> float:
    """Return the scale of cosines below which no training can give every class this probability.

    With K class weights as far apart as can be, at cosines of -1 / (K - 1), and each feature on its class weight,
    the softmax gives the right class the probability P at s = (K - 1) / K · ln((K - 1) P / (1 - P)) (Wang et al. 2018,
    arXiv:1801.09414, equation 6; Wang et al. 2017, arXiv:1704.06369, proposition 2). It grows with ln K: 10.3 for
    10 classes, 16.1 for 1,000.

    Raises:
        ValueError: If there are fewer than two classes, or the probability is not above 1 / K and below 1.
    """
    if num_classes < 2 or not 1 / num_classes < probability < 1:
        raise ValueError(
            f"smallest_scale: {num_classes} classes and probability {probability}; there must be two classes or more, "
            f"and a probability above 1 / num_classes and below 1."
        )
    return (num_classes - 1) / num_classes * math.log((num_classes - 1) * probability / (1 - probability))


def choose_scale(name: str, num_classes: int, scale: float | None) -> float:
    """Return the scale, by default that of the number of classes.

    Raises:
        ValueError: If the scale is not above 0.
    """
    if scale is not None and not scale > 0:
        raise ValueError(f"{name}: scale is {scale}; it must be above 0.")
    return smallest_scale(num_classes) if scale is None else scale

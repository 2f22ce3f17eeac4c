"""Initial weights of a network.

The weights of convolutions and linear layers are drawn anew and their biases become 0; everything else, normalization
first of all, stays as the network made it. Random numbers come from torch's global generator, module by module in the
order of ``network.modules()``, and do not depend on the order of the weights in memory.
"""

import torch
from torch import Tensor, nn

LAYERS = (nn.modules.conv._ConvNd, nn.Linear)


class Initialization:
    """Draws the weights of a network's convolutions and linear layers; subclasses say from what.

    Example::

        HeInitialization()(network)

    """

    def __call__(self, network: nn.Module) -> None:
        """Fill the network's weights, in place."""
        for layer in network.modules():
            if isinstance(layer, LAYERS):
                with torch.no_grad():
                    layer.weight.copy_(self.draw(torch.empty_like(layer.weight, memory_format=torch.contiguous_format)))
                    if layer.bias is not None:
                        layer.bias.zero_()

    def draw(self, weight: Tensor) -> Tensor:
        """Fill an empty weight ``(out, in, ...)`` and return it."""
        raise NotImplementedError


class XavierInitialization(Initialization):
    """Uniform weights of variance 2 / (fan in + fan out) (Glorot and Bengio 2010, equation 16).

    Example::

        LitClassifier(network, loss, optimizer, init=XavierInitialization())

    """

    def draw(self, weight: Tensor) -> Tensor:
        return nn.init.xavier_uniform_(weight)


class HeInitialization(Initialization):
    """Normal weights of variance 2 / fan in, for layers before a ReLU (He et al. 2015, arXiv:1502.01852, equation 10).

    Example::

        LitClassifier(network, loss, optimizer, init=HeInitialization())

    """

    def draw(self, weight: Tensor) -> Tensor:
        return nn.init.kaiming_normal_(weight, nonlinearity="relu")


class OrthogonalInitialization(Initialization):
    """Weights that, as a matrix ``(out, in * ...)``, have orthogonal rows or columns of one length (Saxe et al. 2013,
    arXiv:1312.6120).

    Example::

        LitClassifier(network, loss, optimizer, init=OrthogonalInitialization(gain=2**0.5))

    Args:
        gain: The length.
    """

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain

    def draw(self, weight: Tensor) -> Tensor:
        return nn.init.orthogonal_(weight, self.gain)

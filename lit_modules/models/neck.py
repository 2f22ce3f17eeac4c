"""The neck between the vector of which distances are taken and the one that is classified."""

from torch import Tensor, nn

from lit_modules.models.resnet import ResNet


class BNNeck(nn.BatchNorm1d):
    """Batch norm that learns a scale but no shift, which stays 0 (Luo et al. 2019, arXiv:1903.07071, section 3.6).

    Args:
        num_features: Length D of the vectors.
    """

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)
        self.bias.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """Map vectors ``(N, D)`` to the same shape; in training, N must be more than 1."""
        return super().forward(input)


def add_bnneck(network: ResNet) -> None:
    """Put a BNNeck before a network's last layer, which has no bias then.

    As in the authors' program, its weights start small, with a standard deviation of 0.001. Call this before the last
    layer is replaced by one with a margin.

    Args:
        network: The network; it is changed.
    """
    last = network.fc
    network.neck = BNNeck(last.in_features)
    network.fc = nn.Linear(last.in_features, last.out_features, bias=False)
    nn.init.normal_(network.fc.weight, std=0.001)

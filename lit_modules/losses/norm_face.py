"""NormFace: scores by the cosine alone."""

from torch import Tensor

from lit_modules.losses.margin_head import MarginHead, choose_scale


class NormFace(MarginHead):
    """A last layer whose scores are scaled cosines, with no margin (Wang et al. 2017, arXiv:1704.06369).

    Example::

        scores = NormFace(in_features=64, num_classes=10)(features)

    Args:
        in_features: Length D of the features.
        num_classes: Number K of classes.
        scale: What cosines are multiplied by. None follows the number of classes, see `smallest_scale`.

    Raises:
        ValueError: If ``scale`` is not above 0.
    """

    def __init__(self, in_features: int, num_classes: int, scale: float | None = None) -> None:
        super().__init__(in_features, num_classes)
        self.scale = choose_scale("NormFace", num_classes, scale)

    def lower(self, cosines: Tensor, targets: Tensor) -> Tensor:
        return cosines

    def magnitudes(self, features: Tensor, weight: Tensor) -> float:
        return self.scale

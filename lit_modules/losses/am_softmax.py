"""AM-Softmax: a margin on the cosine."""

from torch import Tensor

from lit_modules.losses.margin_head import MarginHead, choose_scale


class AMSoftmax(MarginHead):
    """A last layer of scaled cosines that trains with cos θ - m for the right class (Wang et al. 2018,
    arXiv:1801.05599, equation 5; CosFace, arXiv:1801.09414, is the same).

    Example::

        scores = AMSoftmax(in_features=64, num_classes=10)(features, labels)

    Args:
        in_features: Length D of the features.
        num_classes: Number K of classes.
        margin: m, a difference of cosines.
        scale: What cosines are multiplied by. None follows the number of classes, see `smallest_scale`.

    Raises:
        ValueError: If ``scale`` is not above 0, ``margin`` is negative, or the targets are not labels.
    """

    def __init__(self, in_features: int, num_classes: int, margin: float = 0.35, scale: float | None = None) -> None:
        super().__init__(in_features, num_classes)
        if margin < 0:
            raise ValueError(f"AMSoftmax: margin is {margin}; it must be at least 0.")
        self.margin = margin
        self.scale = choose_scale("AMSoftmax", num_classes, scale)

    def add_margin(self, cosines: Tensor) -> Tensor:
        return cosines - self.margin

    def magnitudes(self, features: Tensor, weight: Tensor) -> float:
        return self.scale

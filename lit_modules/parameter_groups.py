"""The parameter groups of an optimizer: the one place that decides which parameter gets which settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

NORMALIZATIONS = (
    nn.modules.batchnorm._NormBase,  # batch and instance norm of every dimension, and synchronized batch norm
    nn.GroupNorm,
    nn.LayerNorm,
    nn.RMSNorm,
)


@dataclass(frozen=True)
class ParameterGroups:
    """Sorts the trainable parameters of a module into optimizer groups (He et al. 2018, arXiv:1812.01187, section 3.1).

    A parameter that occurs at several places of the module is listed once. The order is that of
    ``module.parameters()`` within each group and does not change between runs, so that optimizer states load.

    Example::

        optimizer = torch.optim.SGD(ParameterGroups(bias_decay=False)(network), lr=0.1, weight_decay=1e-4)

    Args:
        bias_decay: Whether weight decay acts on biases and on normalization scales and shifts too, as it does by
            default in torch. If False, it acts on the weights of convolutions, linear layers and the like only.
    """

    bias_decay: bool = True

    def __call__(self, module: nn.Module) -> list[dict[str, Any]]:
        """Return the groups of `module`'s trainable parameters, in the form that torch's optimizers take."""
        if self.bias_decay:
            return [{"params": [parameter for parameter, _ in _list_trainable(module)]}]
        decayed = [parameter for parameter, is_weight in _list_trainable(module) if is_weight]
        others = [parameter for parameter, is_weight in _list_trainable(module) if not is_weight]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return [group for group in groups if group["params"]]


def _list_trainable(module: nn.Module) -> Iterator[tuple[nn.Parameter, bool]]:
    """Yield each trainable parameter once, and whether it is a weight: not a bias, nor part of a normalization."""
    seen = set()
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter in seen or not parameter.requires_grad:
                continue
            seen.add(parameter)
            is_bias = parameter.ndim <= 1 or name.endswith("bias")
            yield parameter, not is_bias and not isinstance(owner, NORMALIZATIONS)

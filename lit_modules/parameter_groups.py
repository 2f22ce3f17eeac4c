"""The parameter groups of an optimizer: the one place that decides which parameter gets which settings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

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

    With ``lr_layers`` the rates fall from the last layer to the first (Howard and Ruder 2018, arXiv:1801.06146, section
    3.1). The groups then have rates of their own, which whatever multiplies a group's rate keeps in proportion.

    Example::

        groups = ParameterGroups(bias_decay=False, lr_layers=[["conv1", "bn1"], ["layer1"]])
        optimizer = groups.make_optimizer(network, partial(torch.optim.SGD, lr=0.1, weight_decay=1e-4))
        [group["lr"] for group in optimizer.param_groups]  # the head first: 0.1, 0.1, 0.038, 0.038, 0.015, 0.015

    Args:
        bias_decay: Whether weight decay acts on biases and on normalization scales and shifts too, as it does by
            default in torch. If False, it acts on the weights of convolutions, linear layers and the like only.
        lr_layers: Layers from the lowest up, each a list of names of submodules and parameters, with ``*`` for any
            characters. Each has the learning rate of the one above it divided by ``lr_divisor``; what is in none of
            them has the full rate and is above the last.
        lr_divisor: By how much the rate falls from layer to layer.

    Raises:
        ValueError: If ``lr_divisor`` is not positive, nothing in the module has the name of a layer, or a parameter is
            in two layers.
    """

    bias_decay: bool = True
    lr_layers: Sequence[Sequence[str]] = ()
    lr_divisor: float = 2.6

    def __post_init__(self) -> None:
        object.__setattr__(self, "lr_layers", tuple(map(tuple, self.lr_layers)))  # a configuration brings lists

    def __call__(self, module: nn.Module) -> list[dict[str, Any]]:
        """Return the groups of `module`'s trainable parameters, in the form that torch's optimizers take.

        Where there are ``lr_layers``, a group has its part of the learning rate as ``lr_factor``.
        """
        depths = self._find_depths(module)
        decayed: list[list[nn.Parameter]] = [[] for _ in range(len(self.lr_layers) + 1)]
        others: list[list[nn.Parameter]] = [[] for _ in decayed]
        for parameter, is_weight in _list_trainable(module):
            (decayed if is_weight or self.bias_decay else others)[depths.get(parameter, 0)].append(parameter)
        groups: list[dict[str, Any]] = []
        for depth, (with_decay, without) in enumerate(zip(decayed, others, strict=True)):
            factor = {"lr_factor": self.lr_divisor**-depth} if self.lr_layers else {}
            groups += [{"params": with_decay, **factor}, {"params": without, "weight_decay": 0.0, **factor}]
        return [group for group in groups if group["params"]]

    def make_optimizer(self, module: nn.Module, make: Callable[[Any], Optimizer]) -> Optimizer:
        """Return the optimizer that `make` makes of the groups, each group with its part of the learning rate."""
        optimizer = make(self(module))
        for group in optimizer.param_groups:
            group["lr"] = group["lr"] * group.pop("lr_factor", 1.0)
        return optimizer

    def _find_depths(self, module: nn.Module) -> dict[nn.Parameter, int]:
        """Return how many layers lie above each parameter that is in one."""
        if not self.lr_divisor > 0:
            raise ValueError(f"ParameterGroups: lr_divisor must be positive, not {self.lr_divisor}.")
        depths: dict[nn.Parameter, int] = {}
        for depth, layer in enumerate(reversed(self.lr_layers), start=1):
            for pattern in layer:
                found = [(name, parameter) for name, parameter in module.named_parameters() if _matches(name, pattern)]
                if not found:
                    there = ", ".join(sorted({".".join(name.split(".")[:2]) for name, _ in module.named_parameters()}))
                    kind = type(module).__name__
                    raise ValueError(f"ParameterGroups: {kind} has nothing named {pattern!r}. It has: {there}.")
                for name, parameter in found:
                    if depths.setdefault(parameter, depth) != depth:
                        raise ValueError(
                            f"ParameterGroups: {name!r} is in two of lr_layers={self.lr_layers}. "
                            "Name every parameter once."
                        )
        return depths


def _matches(name: str, pattern: str) -> bool:
    """Return whether a pattern names the parameter, or a part of the module that holds it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


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

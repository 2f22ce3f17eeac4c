"""A running average of the trained part of a module."""

import torch
from torch import Tensor, nn

from callbacks.trained_tensors import batch_statistics, named_tensors, trained_parameters

HALF = (torch.float16, torch.bfloat16)


class RunningAverage:
    """A running average of a module's trained parameters and, if asked, of its batch statistics.

    Everything else counts as it is in the module: frozen parameters, and buffers of which an average means nothing,
    such as counters and masks. Half precision is averaged in float32, whose steps are fine enough for it.

    Example::

        average = RunningAverage()
        average.follow(module)
        average.update(weight=0.1)  # average = 0.9 * average + 0.1 * module

    Args:
        statistics: average the running means and variances of normalization layers too.
    """

    def __init__(self, statistics: bool = True) -> None:
        self.statistics = statistics
        self.tensors: dict[str, Tensor] = {}
        self._present: list[Tensor] = []
        self._parameters: list[nn.Parameter] = []
        self._trained: list[bool] = []

    def follow(self, module: nn.Module) -> None:
        """Average over this module's tensors from now on; those that are new join with their present values.

        Raises:
            ValueError: the average has tensors that the module lacks.
        """
        self._parameters = list(module.parameters())
        self._trained = [parameter.requires_grad for parameter in self._parameters]
        tracked = {**trained_parameters(module), **(batch_statistics(module) if self.statistics else {})}
        for name, tensor in tracked.items():
            if name not in self.tensors:
                self.tensors[name] = _copy(tensor)
        tensors = named_tensors(module)
        if missing := [name for name in self.tensors if name not in tensors]:
            raise ValueError(f"{type(module).__name__} has no {', '.join(missing)}. The average is of another module.")
        self._present = [tensors[name] for name in self.tensors]
        for name, value in self.tensors.items():
            self.tensors[name] = value.to(tensors[name].device)

    def is_outdated(self) -> bool:
        """Whether parameters have been frozen or released since `follow`."""
        return [parameter.requires_grad for parameter in self._parameters] != self._trained

    @torch.no_grad()
    def update(self, weight: float) -> None:
        """Move the average towards the module.

        Args:
            weight: of the module's values in the new average; the average's own is 1 minus that.
        """
        average = list(self.tensors.values())
        present = [tensor.to(value.dtype) for tensor, value in zip(self._present, average, strict=True)]
        torch._foreach_lerp_(average, present, weight)

    def release(self) -> None:
        """Let go of the module, and of the memory of its device."""
        self._present, self._parameters, self._trained = [], [], []
        self.tensors = {name: value.cpu() for name, value in self.tensors.items()}


def _copy(tensor: Tensor) -> Tensor:
    with torch.inference_mode(False), torch.no_grad():  # validation runs in inference mode
        return tensor.detach().to(torch.float32 if tensor.dtype in HALF else tensor.dtype, copy=True)

"""Which tensors of a module its training changes: what averages and copies of weights are made of.

Tensors go by the names of `named_parameters` and `named_buffers`, where a tensor that occurs at several places has one
name; `complete_state` puts it back at all of them.
"""

from collections.abc import Iterable, Mapping

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def named_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer once, by name."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def trained_parameters(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are trained, by name."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def trained_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers by name, without those of frozen parts such as a teacher."""
    frozen = {id(buffer) for part in frozen_parts(module) for buffer in part.buffers(recurse=False)}
    return {name: buffer for name, buffer in module.named_buffers() if id(buffer) not in frozen}


def batch_statistics(module: nn.Module) -> dict[str, Tensor]:
    """Return the running means and variances of the normalization layers by name, without those of frozen parts."""
    layers = [layer for layer in module.modules() if isinstance(layer, _NormBase)]
    statistics = {id(buffer) for layer in layers for buffer in (layer.running_mean, layer.running_var)}
    return {name: buffer for name, buffer in trained_buffers(module).items() if id(buffer) in statistics}


def frozen_parts(module: nn.Module) -> set[nn.Module]:
    """Return the submodules that have parameters, none of them trained, and all that is below these."""
    found: set[nn.Module] = set()
    for part in module.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            found.update(part.modules())
    return found


def complete_state(module: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of the module's state dict in which some tensors have other values.

    Args:
        module: the module; it is not changed.
        weights: the other values, by the names of `named_tensors`; all that is not in it keeps the module's value.
    """
    given = {id(tensor): weights[name] for name, tensor in named_tensors(module).items() if name in weights}
    state = module.state_dict(keep_vars=True)
    return {
        key: given.get(id(value), value).detach().to(value.device, value.dtype, copy=True)
        if isinstance(value, Tensor)
        else value
        for key, value in state.items()
    }


def follow_first_rank(trainer: L.Trainer, tensors: Iterable[Tensor]) -> None:
    """Give tensors, in place, the values that they have in the first process.

    Without synchronized batch normalization each process has statistics of its own, and the first one's count.
    """
    if trainer.world_size > 1 and torch.distributed.is_initialized():
        for tensor in tensors:
            torch.distributed.broadcast(tensor, 0)

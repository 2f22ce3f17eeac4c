"""Batch norm over the batches of all processes, on every device.

torch's ``SyncBatchNorm`` refuses the processor, and DDP refuses it there; on a GPU it is what runs here too.
"""

from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.plugins.layer_sync import LayerSync
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


class SynchronizedBatchNorm(_BatchNorm):
    """Normalizes by the statistics of the batches of all processes together, on the processor.

    With one process, and in evaluation, it is a plain batch norm. Arguments are those of `torch.nn.BatchNorm2d`.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, C, ...)`` to the same shape; N may differ from process to process."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(x)
        normalized, mean, variance, count = _JointBatchNorm.apply(x, self.weight, self.bias, self.eps)
        if self.track_running_stats:
            self._track(mean, variance * (count / (count - 1)))
        return normalized

    def _check_input_dim(self, x: Tensor) -> None:
        """Leave the shape to the layer that was there before: it takes the place of norms of any dimension."""

    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


class _JointBatchNorm(torch.autograd.Function):
    """The normalization itself: one exchange between the processes forward, and one backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> tuple[Tensor, ...]:
        over = [0, *range(2, x.ndim)]
        exact = x if x.dtype == torch.float64 else x.float()
        variance, mean = torch.var_mean(exact, over, correction=0)
        own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
        each = own.new_empty(dist.get_world_size(), len(own))
        dist.all_gather(list(each), own)
        means, variances, counts = each.split([x.shape[1], x.shape[1], 1], dim=1)
        count = counts.sum()
        mean = (means * counts).sum(0) / count
        variance = ((variances + (means - mean) ** 2) * counts).sum(0) / count
        normalized = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean, variance, count)
        return normalized, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, weight, mean, scale, count = ctx.saved_tensors
        over = [0, *range(2, x.ndim)]
        shape = [1, -1] + [1] * (x.ndim - 2)
        grad = grad.to(mean.dtype)
        whitened = (x.to(mean.dtype) - mean.view(shape)) * scale.view(shape)
        sums = torch.stack([grad.sum(over), (grad * whitened).sum(over)])
        of_bias, of_weight = sums.clone()
        dist.all_reduce(sums)
        shift, slope = (part.view(shape) for part in sums / count)
        factor = (scale if weight is None else scale * weight).view(shape)
        of_x = (factor * (grad - shift - whitened * slope)).to(x.dtype)
        return (of_x, None, None, None) if weight is None else (of_x, of_weight, of_bias, None)


class BatchNormSync(LayerSync):
    """Puts a synchronized one in the place of every batch norm of a module for the time of a fit.

    That is torch's on a GPU and `SynchronizedBatchNorm` on the processor.

    Parameters and buffers stay the same objects under the same names, and afterwards the layers that were there before
    are back, with what was learned. Lightning's own, which ``Trainer(sync_batchnorm=True)`` makes, refuses the
    processor and leaves layers of another class behind.

    Example::

        trainer = Trainer(devices=2, strategy="ddp", plugins=[BatchNormSync()])
    """

    def __init__(self) -> None:
        self._replaced: dict[nn.Module, _BatchNorm] = {}

    def apply(self, model: nn.Module) -> nn.Module:
        on_processor = _device_of(model).type == "cpu"
        kind: type[_BatchNorm] = SynchronizedBatchNorm if on_processor else nn.SyncBatchNorm
        made: dict[nn.Module, nn.Module] = {}
        for parent in list(model.modules()):
            for name, layer in parent.named_children():
                if isinstance(layer, _BatchNorm) and not isinstance(layer, nn.SyncBatchNorm):
                    if layer not in made:
                        made[layer] = _synchronized(layer, kind)
                        self._replaced[made[layer]] = layer
                    parent.add_module(name, made[layer])
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        for parent in list(model.modules()):
            for name, layer in parent.named_children():
                if layer in self._replaced:
                    parent.add_module(name, self._replaced[layer].train(layer.training))
        self._replaced = {}
        return model


def _device_of(model: nn.Module) -> torch.device:
    """Return where a module will be trained: Lightning moves it there only afterwards."""
    if isinstance(model, L.LightningModule) and model._trainer is not None:
        return model._trainer.strategy.root_device
    return next(model.parameters()).device


def _synchronized(layer: _BatchNorm, kind: type[_BatchNorm]) -> _BatchNorm:
    """Return a synchronized layer that shares the parameters and buffers of a plain one."""
    made = kind(
        layer.num_features, layer.eps, layer.momentum, affine=False, track_running_stats=layer.track_running_stats
    )
    made.affine = layer.affine
    made._parameters, made._buffers = layer._parameters, layer._buffers
    made.train(layer.training)
    return made

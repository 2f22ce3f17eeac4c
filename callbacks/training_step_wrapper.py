"""A function around a module's training step.

No hook of Lightning's can replace a batch or add to a loss. What runs around `training_step` on the instance can, and
it runs where the step does: in autocast, in DDP's forward, once a batch under accumulation.
"""

import functools
from collections.abc import Callable
from typing import Any

import lightning as L

Step = Callable[..., Any]


class TrainingStepWrapper:
    """Calls a function in place of a module's `training_step`, from the making of the object until `remove`.

    Several wrappers of a module lie around each other, the last one outermost, and may be removed in any order.

    Example::

        def halve(training_step, batch, *rest):
            return training_step(batch, *rest) / 2

        wrapper = TrainingStepWrapper(module, halve)
        wrapper.remove()

    Args:
        pl_module: the module.
        around: gets the step that it stands for, and what that is called with: the batch and, if the module asks for
            it, the batch's index. It returns what a `training_step` does.
    """

    def __init__(self, pl_module: L.LightningModule, around: Callable[..., Any]) -> None:
        self._module = pl_module
        self._inner: Step = pl_module.training_step
        self._is_own = "training_step" in vars(pl_module)  # otherwise the step is the class's method
        self._removed = False

        @functools.wraps(self._inner)  # Lightning reads from the signature what the step is to be called with
        def training_step(*args: Any, **kwargs: Any) -> Any:
            return self._inner(*args, **kwargs) if self._removed else around(self._inner, *args, **kwargs)

        training_step.wrapper = self  # type: ignore[attr-defined]
        self._outer: Step = training_step
        pl_module.training_step = training_step  # type: ignore[method-assign]

    def remove(self) -> None:
        """Take the function away; the module is as it was once all its wrappers are removed."""
        self._removed = True
        while (outermost := _outermost_wrapper(self._module)) is not None and outermost._removed:
            if outermost._is_own:
                self._module.training_step = outermost._inner  # type: ignore[method-assign]
            else:
                del self._module.training_step


def _outermost_wrapper(pl_module: L.LightningModule) -> TrainingStepWrapper | None:
    """Return the wrapper that is called first; None if that is a function of somebody else's."""
    step = vars(pl_module).get("training_step")
    wrapper = getattr(step, "wrapper", None)  # which `functools.wraps` of somebody else's would have copied
    return wrapper if wrapper is not None and wrapper._outer is step else None

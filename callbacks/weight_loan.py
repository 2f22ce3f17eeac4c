"""Other values for a module's tensors, for a while.

The module's own values are kept aside and copied back, never exchanged with the lent ones: whatever interrupts the
copying, taking the loan back makes the module what it was, and the lent tensors have not been touched.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from callbacks.trained_tensors import named_tensors


class WeightLoan:
    """Lend a module other values for some of its tensors.

    Until the loan ends, the module computes with the lent values, but its `state_dict` holds its own, so that no
    checkpoint can be taken of the lent ones. Tensors keep their place in memory.

    Example::

        loan = WeightLoan(module, average)
        loan.begin()
        try:
            ...
        finally:
            loan.end()

    Args:
        module: who borrows.
        weights: the lent values, by the names of `named_parameters` and `named_buffers`.

    Raises:
        ValueError: the module has no tensors of these names and shapes.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, Tensor]) -> None:
        tensors = named_tensors(module)
        strange = [name for name, value in weights.items() if name not in tensors or tensors[name].shape != value.shape]
        if strange:
            raise ValueError(
                f"{type(module).__name__} has no tensors of the names and shapes of {', '.join(strange)}. "
                "The weights are those of another module."
            )
        self._lent = list(weights.values())
        self._tensors = [tensors[name] for name in weights]
        with torch.inference_mode(False), torch.no_grad():
            self._own = [tensor.clone() for tensor in self._tensors]
        own = {id(tensor): value for tensor, value in zip(self._tensors, self._own, strict=True)}
        state = module.state_dict(keep_vars=True)
        self._own_state = {key: own[id(value)] for key, value in state.items() if id(value) in own}
        self._hook = module.register_state_dict_post_hook(self._make_hook())

    def _make_hook(self) -> Any:
        def show_own(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
            state.update({prefix + key: value for key, value in self._own_state.items()})

        return show_own  # a bound method could not be registered: torch sets an attribute on the hook

    @torch.no_grad()
    def begin(self) -> None:
        """Give the module the lent values."""
        torch._foreach_copy_(self._tensors, self._lent)

    @torch.no_grad()
    def end(self) -> None:
        """Give the module its own values back."""
        torch._foreach_copy_(self._tensors, self._own)
        self._hook.remove()

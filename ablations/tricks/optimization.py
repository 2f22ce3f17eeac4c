"""Tricks on the optimizer, its parameter groups and the initial weights."""

from ablations.recipe import Recipe
from ablations.registry import trick

ALL = {"classification", "detection", "retrieval"}


@trick(tasks=ALL, source="arXiv:1711.05101")
def adamw(recipe: Recipe, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
    """Replace the optimizer by AdamW, with a learning rate of its own."""
    recipe.swap("model.optimizer", "torch.optim.AdamW", lr=lr, weight_decay=weight_decay)


@trick(tasks=ALL, source="arXiv:1812.01187, section 3.1")
def no_bias_decay(recipe: Recipe) -> None:
    """Decay the weights of convolutions and linear layers only, not biases and normalization."""
    recipe.set("model.parameter_groups.bias_decay", False)


@trick(tasks={"classification"}, source="arXiv:1706.02677, section 5.1; arXiv:1812.01187, section 3.1")
def zero_gamma(recipe: Recipe) -> None:
    """Start the last normalization of every residual block at 0, so that each block begins as the identity."""
    recipe.set("model.network.zero_gamma", True)

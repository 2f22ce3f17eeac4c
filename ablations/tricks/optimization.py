"""Tricks on the optimizer, its parameter groups and the initial weights."""

from ablations.errors import RecipeError
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


@trick(tasks=ALL, source="arXiv:1412.6980")
def adam(recipe: Recipe, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
    """Replace the optimizer by Adam, with a learning rate of its own."""
    recipe.swap("model.optimizer", "torch.optim.Adam", lr=lr, weight_decay=weight_decay)


@trick(tasks=ALL, source="arXiv:1908.03265")
def radam(recipe: Recipe, lr: float = 1e-3, weight_decay: float = 0.0) -> None:
    """Replace the optimizer by RAdam, which warms Adam up by itself, with a learning rate of its own."""
    recipe.swap("model.optimizer", "torch.optim.RAdam", lr=lr, weight_decay=weight_decay)


@trick(tasks=ALL, source="Tieleman and Hinton, 2012, Neural Networks for Machine Learning, lecture 6.5")
def rmsprop(recipe: Recipe, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
    """Replace the optimizer by RMSprop, with a learning rate of its own."""
    recipe.swap("model.optimizer", "torch.optim.RMSprop", lr=lr, momentum=momentum, weight_decay=weight_decay)


@trick(tasks=ALL, source="Nesterov, 1983; Sutskever et al., 2013, section 2")
def nesterov(recipe: Recipe) -> None:
    """Take the gradient of SGD's step after the momentum has moved the weights."""
    recipe.set("model.optimizer.nesterov", True)
    momentum, dampening = recipe.get("model.optimizer.momentum"), recipe.get("model.optimizer.dampening")
    if not momentum > 0 or dampening != 0:
        raise RecipeError(
            f"nesterov: model.optimizer has momentum {momentum} and dampening {dampening}; "
            f"it needs a momentum above 0 and no dampening."
        )


@trick(tasks=ALL, source="arXiv:1211.5063, section 3.2")
def gradient_clipping(recipe: Recipe, max_norm: float = 1.0) -> None:
    """Scale the gradient of all weights together down to a norm of `max_norm` where it is longer."""
    recipe.set("trainer.gradient_clip_val", max_norm)
    recipe.set("trainer.gradient_clip_algorithm", "norm")


@trick(tasks=ALL, source="arXiv:1806.00187, section 3.2")
def gradient_accumulation(recipe: Recipe, batches: int = 4) -> None:
    """Add up the gradients of so many `batches` for one step of the optimizer."""
    recipe.set("trainer.accumulate_grad_batches", batches)


@trick(tasks=ALL, source="arXiv:1710.03740; arXiv:1905.12322")
def mixed_precision(recipe: Recipe, precision: str = "bf16-mixed") -> None:
    """Compute in 16 bits where that is safe; the weights stay in 32."""
    recipe.set("trainer.precision", precision)


@trick(tasks=ALL, source="arXiv:1609.04836")
def large_batch(recipe: Recipe, factor: float = 4) -> None:
    """Multiply the batch size by `factor`, and nothing else."""
    scale_batch_size(recipe, factor)


@trick(tasks=ALL, source="arXiv:1804.07612")
def small_batch(recipe: Recipe, divisor: float = 5) -> None:
    """Divide the batch size by `divisor`, and nothing else."""
    scale_batch_size(recipe, 1 / divisor)


@trick(tasks=ALL, source="Krogh and Hertz, 1991; arXiv:1812.01187", revises=("model.optimizer.weight_decay",))
def weight_decay(recipe: Recipe, strength: float = 5e-4) -> None:
    """Let the weights decay with another `strength`."""
    recipe.set("model.optimizer.weight_decay", strength)


@trick(tasks=ALL, source="arXiv:1711.07240, section 3.3")
def sync_batchnorm(recipe: Recipe) -> None:
    """Normalize by the statistics of the batches of all devices together."""
    recipe.set("trainer.sync_batchnorm", True)


@trick(tasks=ALL, source="Glorot and Bengio, 2010, equation 16")
def xavier_init(recipe: Recipe) -> None:
    """Draw the weights of convolutions and linear layers by both fans, Xavier's way; biases start at 0."""
    recipe.swap("model.init", "lit_modules.initialization.XavierInitialization")


@trick(tasks=ALL, source="arXiv:1502.01852, equation 10")
def he_init(recipe: Recipe) -> None:
    """Draw the weights of convolutions and linear layers by the fan in, for ReLU, He's way; biases start at 0."""
    recipe.swap("model.init", "lit_modules.initialization.HeInitialization")


@trick(tasks=ALL, source="arXiv:1312.6120")
def orthogonal_init(recipe: Recipe, gain: float = 1.0) -> None:
    """Start convolutions and linear layers from orthogonal matrices times `gain`; biases start at 0."""
    recipe.swap("model.init", "lit_modules.initialization.OrthogonalInitialization", gain=gain)


def scale_batch_size(recipe: Recipe, factor: float) -> None:
    """Multiply the batch size by `factor`; where batches are of identities, that is their number.

    Raises:
        RecipeError: the product is not a positive whole number.
    """
    arguments = recipe.get("data").get("init_args") or {}
    path = "data.identities_per_batch" if "identities_per_batch" in arguments else "data.batch_size"
    size = recipe.get(path)
    scaled = round(size * factor)
    if scaled < 1 or abs(scaled - size * factor) > 1e-6:
        raise RecipeError(
            f"{path} is {size}, and {factor:g} times that is {size * factor:g}, not a positive whole number. "
            f"Choose a factor that gives one."
        )
    recipe.set(path, scaled)

"""Tricks on the learning rate over the run."""

from ablations.recipe import Recipe
from ablations.registry import trick

ALL = {"classification", "detection", "retrieval"}


@trick(tasks=ALL, source="arXiv:1812.01187, section 2.1: 30, 60 and 90 of 120 epochs")
def step_schedule(recipe: Recipe, milestones: tuple[float, ...] = (0.25, 0.5, 0.75), gamma: float = 0.1) -> None:
    """Multiply the learning rate by `gamma` after given fractions of the run."""
    recipe.swap(
        "model.schedule", "lit_modules.schedules.FractionalMultiStepLR", milestones=list(milestones), gamma=gamma
    )


@trick(tasks=ALL, source="arXiv:1608.03983; arXiv:1812.01187, section 5.1")
def cosine_schedule(recipe: Recipe, min_lr: float = 0.0) -> None:
    """Let the learning rate fall along half a cosine to `min_lr` over the run, step by step."""
    recipe.swap("model.schedule", "torch.optim.lr_scheduler.CosineAnnealingLR", eta_min=min_lr)


@trick(tasks=ALL, source="arXiv:1706.02677, section 2.2; arXiv:1812.01187, section 3.1")
def linear_warmup(recipe: Recipe, epochs: float = 5) -> None:
    """Let the learning rate climb linearly to its scheduled value over the first `epochs`."""
    recipe.add("trainer.callbacks", "callbacks.LinearWarmup", epochs=epochs)

"""Tricks on the learning rate over the run."""

from ablations.recipe import Recipe
from ablations.registry import trick
from ablations.tricks.optimization import scale_batch_size
from ablations.tricks.tasks import direction, headline

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


@trick(tasks=ALL, source="arXiv:1608.03983, section 3")
def cosine_restarts(recipe: Recipe, cycles: int = 5, min_lr: float = 0.0) -> None:
    """Let the learning rate fall along half a cosine to `min_lr` in each of `cycles` equal parts of the run."""
    recipe.swap("model.schedule", "lit_modules.cosine_cycles.CosineCycles", cycles=cycles, min_lr=min_lr)


@trick(tasks=ALL, source="arXiv:1708.07120; arXiv:1803.09820, section 4")
def one_cycle(recipe: Recipe, max_lr_factor: float = 1.0, start_fraction: float = 0.3) -> None:
    """Let the learning rate climb to `max_lr_factor` of its base and fall to almost 0, the momentum against it."""
    recipe.swap(
        "model.schedule",
        "lit_modules.schedules.OneCycle",
        max_lr_factor=max_lr_factor,
        start_fraction=start_fraction,
    )


@trick(tasks=ALL, source="arXiv:1512.03385, section 3.4")
def reduce_on_plateau(
    recipe: Recipe, factor: float = 0.1, patience: int = 4, monitor: str | None = None, mode: str | None = None
) -> None:
    """Multiply the learning rate by `factor` when more than `patience` validations in a row bring nothing better.

    Validations count, not epochs: `trainer.check_val_every_n_epoch` says how many epochs lie between two. What gets
    better `monitor` says: by default the accuracy, of detection and retrieval the mAP. Its name says whether higher is
    better; for a metric that is not known, `mode` does, ``max`` or ``min``.
    """
    monitor = headline(recipe) if monitor is None else monitor
    recipe.swap(
        "model.schedule",
        "lit_modules.schedules.ReduceOnPlateau",
        factor=factor,
        patience=patience,
        monitor=monitor,
        mode=direction("reduce_on_plateau", monitor, mode),
    )


@trick(tasks=ALL, source="arXiv:1512.00567, section 8")
def exponential_decay(recipe: Recipe, final_fraction: float = 0.001) -> None:
    """Multiply the learning rate by the same factor in every step, down to `final_fraction` of it."""
    recipe.swap("model.schedule", "lit_modules.schedules.ExponentialDecay", final_fraction=final_fraction)


@trick(tasks=ALL, source="Robbins and Monro, 1951; Bottou, 2012, Stochastic Gradient Descent Tricks, section 5.2")
def inverse_time_decay(recipe: Recipe, final_fraction: float = 0.05) -> None:
    """Divide the learning rate by 1 + k t in step t, down to `final_fraction` of it."""
    recipe.swap("model.schedule", "lit_modules.schedules.InverseTimeDecay", final_fraction=final_fraction)


@trick(tasks=ALL, source="arXiv:1706.02677, section 2.1", revises=("model.optimizer.lr",))
def linear_lr_scaling(recipe: Recipe, factor: float = 2) -> None:
    """Multiply the batch size by `factor`, and the learning rate with it."""
    scale_batch_size(recipe, factor)
    recipe.set("model.optimizer.lr", recipe.get("model.optimizer.lr") * factor)


@trick(tasks=ALL, source="arXiv:1506.01186, section 3.3", revises=("model.optimizer.lr",))
def lr_finder(recipe: Recipe, min_lr: float = 1e-5, max_lr: float = 10.0, steps: int = 100) -> None:
    """Search the learning rate before the training: the one at which the loss of a range test falls fastest."""
    recipe.add("trainer.callbacks", "callbacks.LRFinder", min_lr=min_lr, max_lr=max_lr, steps=steps)

"""Tricks that average or choose among the weights of one training."""

from ablations.recipe import Recipe
from ablations.registry import trick
from ablations.tricks.tasks import direction, headline

ALL = {"classification", "detection", "retrieval"}
WEIGHTS = ("inference.weights",)


@trick(
    tasks=ALL,
    source="arXiv:1703.01780, section 3; warm-up as in TensorFlow's ExponentialMovingAverage",
    revises=WEIGHTS,
)
def ema(recipe: Recipe, decay: float = 0.999, every_n_steps: int = 1) -> None:
    """Score an exponential moving average of the weights, whose decay climbs to `decay`."""
    recipe.add(
        "trainer.callbacks", "callbacks.EMA", decay=decay, every_n_steps=every_n_steps, validate_with_average=False
    )
    recipe.set("inference.weights", "ema")


@trick(tasks=ALL, source="arXiv:1803.05407", revises=WEIGHTS)
def swa(recipe: Recipe, start_fraction: float = 0.75, lr_factor: float = 0.5, cycle_epochs: int | None = None) -> None:
    """Keep the learning rate at `lr_factor` of its base from `start_fraction` on, and score the mean of the weights."""
    lr = recipe.get("model.optimizer.lr") * lr_factor
    recipe.add("trainer.callbacks", "callbacks.SWA", lr=lr, start_fraction=start_fraction, cycle_epochs=cycle_epochs)
    recipe.set("inference.weights", "swa")


@trick(tasks=ALL, source="arXiv:1704.00109", revises=WEIGHTS)
def snapshot_ensemble(recipe: Recipe, cycles: int = 5) -> None:
    """Restart a cosine schedule `cycles` times, and average the predictions of the weights at the end of each cycle."""
    recipe.swap("model.schedule", "lit_modules.cosine_cycles.CosineCycles", cycles=cycles)
    recipe.add("trainer.callbacks", "callbacks.SnapshotEnsemble", cycles=cycles)
    recipe.set("inference.weights", "snapshots")


@trick(tasks=ALL, source="Prechelt, 1998, Early Stopping - But When?", revises=WEIGHTS)
def early_stopping(
    recipe: Recipe, monitor: str | None = None, mode: str | None = None, patience: int | None = None
) -> None:
    """Score the weights of the epoch that was best in validation; the run is shortened only if `patience` is given.

    What is best `monitor` says: by default the accuracy, of detection and retrieval the mAP. Its name says whether
    higher is better; for a metric that is not known, `mode` does, ``max`` or ``min``.
    """
    monitor = headline(recipe) if monitor is None else monitor
    mode = direction("early_stopping", monitor, mode)
    recipe.add("trainer.callbacks", "callbacks.BestWeights", monitor=monitor, mode=mode)
    if patience is not None:
        stop = "lightning.pytorch.callbacks.EarlyStopping"
        recipe.add("trainer.callbacks", stop, monitor=monitor, mode=mode, patience=patience, verbose=False)
    recipe.set("inference.weights", "best")

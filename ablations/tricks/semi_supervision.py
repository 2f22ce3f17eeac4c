"""Tricks that train on images without labels: those of the data that `unlabeled_dataloader` gives."""

from ablations.recipe import Recipe
from ablations.registry import trick


@trick(tasks={"classification"}, source="arXiv:1703.01780", revises=("inference.weights",))
def mean_teacher(recipe: Recipe, decay: float = 0.999, weight: float = 10.0, ramp_up_epochs: float = 5.0) -> None:
    """Draw predictions for unlabeled images towards those of the averaged weights, which are scored."""
    recipe.add("trainer.callbacks", "callbacks.MeanTeacher", decay=decay, weight=weight, ramp_up_epochs=ramp_up_epochs)
    recipe.set("inference.weights", "teacher")


@trick(tasks={"classification"}, source="Lee, 2013, Pseudo-Label, ICML workshop")
def pseudo_labels(recipe: Recipe, threshold: float = 0.9, start_epoch: int = 10, every_n_epochs: int = 5) -> None:
    """Train on unlabeled images predicted above `threshold` as if labeled, chosen anew every `every_n_epochs`."""
    recipe.add(
        "trainer.callbacks",
        "callbacks.PseudoLabels",
        threshold=threshold,
        start_epoch=start_epoch,
        every_n_epochs=every_n_epochs,
    )

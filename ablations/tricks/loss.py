"""Tricks on the loss and the targets.

A loss may stand inside another, as in OHEM; the tricks here edit the innermost one. The loss of the base is replaced
once: two losses cannot both be used. What a trick sets in the loss, such as smoothing, goes over into the one that
replaces it, so these tricks stack in either order.
"""

from typing import Any

from ablations.errors import RecipeError
from ablations.recipe import Recipe, class_name
from ablations.registry import trick
from ablations.tricks.detection_models import DETECTOR
from ablations.tricks.tasks import is_detection

CLASSIFICATION = {"classification"}
IDENTITIES = {"classification", "retrieval"}
DETECTION = {"detection"}
LOSSES = "lit_modules.losses"
LOSS = ("model.loss",)
DETECTION_LOSS = f"{DETECTOR}.loss"
PLAIN = "CrossEntropyLoss"
"""The loss that other losses may replace."""


@trick(
    tasks=IDENTITIES | DETECTION,
    source="arXiv:1512.00567, section 7; arXiv:1812.01187, section 5.2; arXiv:1902.04103, section 3.2",
    revises=LOSS,
)
def label_smoothing(recipe: Recipe, epsilon: float | None = None) -> None:
    """Take `epsilon` of the target's weight from the label and spread it over all classes.

    It is 0.1 by default. In detection each class is a decision of its own, and is moved by min(1/K, 1/40) from 0 and 1.
    """
    if not is_detection(recipe):
        recipe.set(f"{_find_loss(recipe)}.label_smoothing", 0.1 if epsilon is None else epsilon)
    elif epsilon is None:
        recipe.set(f"{DETECTION_LOSS}.label_smoothing", True)
    else:
        raise RecipeError(
            f"label_smoothing: epsilon is {epsilon}, but in detection it is min(1/K, 1/40) of K classes. Leave it out."
        )


@trick(tasks=CLASSIFICATION | DETECTION, source="arXiv:1708.02002, section 3.2", revises=LOSS)
def focal_loss(recipe: Recipe, gamma: float = 2.0) -> None:
    """Weight the loss of a class of probability p by (1 - p)^`gamma`, so that hard samples decide.

    In detection it is the objectness that is weighted: most places are empty, and easy.
    """
    if is_detection(recipe):
        recipe.set(f"{DETECTION_LOSS}.focal_gamma", gamma)
        return
    _replace_loss(recipe, "focal_loss", f"{LOSSES}.FocalLoss", gamma=gamma)


@trick(tasks=CLASSIFICATION, source="King and Zeng, 2001; arXiv:1901.05555, section 3", revises=LOSS)
def class_weighted_loss(recipe: Recipe, weights: list[float] | None = None) -> None:
    """Weight each class by how rare it is, or by the `weights` that are given."""
    classes = recipe.get("model.network.num_classes")
    _replace_loss(
        recipe, "class_weighted_loss", f"{LOSSES}.ClassWeightedCrossEntropy", num_classes=classes, weights=weights
    )


@trick(
    tasks=CLASSIFICATION | DETECTION,
    source="arXiv:1604.03540; arXiv:1705.08826; arXiv:1512.02325, section 2.2",
    revises=LOSS,
)
def ohem(recipe: Recipe, fraction: float | None = None, negatives_per_box: float | None = None) -> None:
    """Learn from the `fraction` of each batch that has the largest losses.

    It is 0.5 by default. In detection all boxes count and, for each of them, the `negatives_per_box` empty places of
    the batch with the largest losses, 3 by default.
    """
    given, other = ("negatives_per_box", fraction) if is_detection(recipe) else ("fraction", negatives_per_box)
    if other is not None:
        raise RecipeError(f"ohem: in this task it has the argument {given} alone. Leave out the other.")
    if is_detection(recipe):
        recipe.set(f"{DETECTION_LOSS}.negatives_per_box", 3.0 if negatives_per_box is None else negatives_per_box)
        return
    inner = recipe.get("model.loss")
    arguments = inner.get("init_args") or {}
    if "reduction" not in arguments:
        raise RecipeError(
            f"ohem: model.loss is {class_name(inner)}, which cannot tell the samples of a batch apart: it has no "
            f"'reduction'. Leave out one of the two."
        )
    inner = {**inner, "init_args": {**arguments, "reduction": "none"}}
    recipe.swap("model.loss", f"{LOSSES}.OHEM", loss=inner, fraction=0.5 if fraction is None else fraction)


@trick(tasks=CLASSIFICATION, source="arXiv:2110.00476, section 3", revises=LOSS)
def binary_cross_entropy(recipe: Recipe) -> None:
    """Decide on every label apart, by the sigmoid of its score, in place of one softmax over all."""
    _replace_loss(recipe, "binary_cross_entropy", f"{LOSSES}.BinaryCrossEntropy")
    _use_sigmoid(recipe)


@trick(tasks=CLASSIFICATION, source="arXiv:2108.10566, section 3", revises=LOSS)
def f_beta_loss(recipe: Recipe, beta: float = 1.0) -> None:
    """Maximise the F-beta of every label, counted with probabilities."""
    _replace_loss(recipe, "f_beta_loss", f"{LOSSES}.FBetaLoss", shared=(), beta=beta)
    _use_sigmoid(recipe)


@trick(tasks=CLASSIFICATION, source="arXiv:1705.08790, section 2", revises=LOSS)
def lovasz_loss(recipe: Recipe, multi_label: bool = True) -> None:
    """Maximise a convex bound of every label's intersection over union."""
    _refuse_mixed_images(recipe, "lovasz_loss")
    _replace_loss(recipe, "lovasz_loss", f"{LOSSES}.{'LovaszHinge' if multi_label else 'LovaszSoftmax'}", shared=())
    if multi_label:
        _use_sigmoid(recipe)


@trick(tasks=CLASSIFICATION, source="Crammer and Singer, 2001", revises=LOSS)
def hinge_loss(recipe: Recipe, margin: float = 1.0, p: int = 1) -> None:
    """Ask that the label's score exceed every other by `margin`, and count what is missing."""
    _refuse_mixed_images(recipe, "hinge_loss")
    _replace_loss(recipe, "hinge_loss", "torch.nn.MultiMarginLoss", shared=("reduction",), margin=margin, p=p)


@trick(tasks=CLASSIFICATION, source="Brier, 1950", revises=LOSS)
def mse_loss(recipe: Recipe) -> None:
    """Take the squared error between softmax and one-hot target, summed over classes."""
    _replace_loss(recipe, "mse_loss", f"{LOSSES}.SquaredError")


@trick(tasks=CLASSIFICATION, source="arXiv:1712.09482", revises=LOSS)
def mae_loss(recipe: Recipe) -> None:
    """Take the absolute error between softmax and one-hot target, summed over classes."""
    _replace_loss(recipe, "mae_loss", f"{LOSSES}.AbsoluteError")


@trick(tasks=IDENTITIES, source="arXiv:1704.06369")
def norm_face(recipe: Recipe, scale: float | None = None) -> None:
    """Score by the cosine between features and class weights, scaled by the number of classes."""
    recipe.swap("model.head", f"{LOSSES}.NormFace", scale=scale)


@trick(tasks=IDENTITIES, source="arXiv:1801.05599; arXiv:1801.09414")
def am_softmax(recipe: Recipe, margin: float = 0.35, scale: float | None = None) -> None:
    """Score by the cosine, and in training take a `margin` from that of the label."""
    _refuse_mixed_images(recipe, "am_softmax")
    recipe.swap("model.head", f"{LOSSES}.AMSoftmax", margin=margin, scale=scale)


@trick(tasks=IDENTITIES, source="arXiv:1801.07698")
def arc_face(recipe: Recipe, margin: float = 0.5, scale: float | None = None) -> None:
    """Score by the cosine, and in training add a `margin` in radians to the angle to the label's weights."""
    _refuse_mixed_images(recipe, "arc_face")
    recipe.swap("model.head", f"{LOSSES}.ArcFace", margin=margin, scale=scale)


@trick(tasks=IDENTITIES, source="arXiv:1612.02295")
def large_margin_softmax(recipe: Recipe, margin: int = 2, easing: float = 5.0) -> None:
    """Count the angle to the label's weights `margin` times in training, with the plain angle mixed in."""
    _refuse_mixed_images(recipe, "large_margin_softmax")
    recipe.swap("model.head", f"{LOSSES}.LargeMarginSoftmax", margin=margin, easing=easing)


@trick(tasks=CLASSIFICATION, source="arXiv:1812.01187, section 5.2; arXiv:1503.02531")
def distillation(
    recipe: Recipe, teacher: str, temperature: float = 20.0, network: dict[str, Any] | None = None
) -> None:
    """Learn the class probabilities of a trained `teacher` beside the labels, both softened by `temperature`."""
    recipe.swap(
        "model.distillation",
        "lit_modules.Distillation",
        network=recipe.get("model.network") if network is None else network,
        teacher_weights=teacher,
        temperature=temperature,
    )


def _find_loss(recipe: Recipe) -> str:
    """Return the path of the loss, of the innermost where one stands in another."""
    path = "model.loss"
    while "loss" in (recipe.get(path).get("init_args") or {}):
        path += ".loss"
    return path


def _replace_loss(
    recipe: Recipe, name: str, class_path: str, shared: tuple[str, ...] = ("label_smoothing", "reduction"), **own: Any
) -> None:
    """Put a loss in the place of the plain one; it takes over what is set of the `shared` arguments, which it has too.

    Raises:
        RecipeError: another loss has replaced the plain one, or something is set that this one does not have.
    """
    path = _find_loss(recipe)
    if class_name(recipe.get(path)) != PLAIN:
        raise RecipeError(
            f"{name}: {path} is {class_name(recipe.get(path))}, and only {PLAIN} can be replaced: of two losses the "
            f"last would win. Leave out one of the two."
        )
    if recipe.get(f"{path}.label_smoothing") and "label_smoothing" not in shared:
        raise RecipeError(f"{name}: it has no label smoothing, which {path} has. Leave out one of the two.")
    if recipe.get(f"{path}.reduction") != "mean" and "reduction" not in shared:
        raise RecipeError(
            f"{name}: {path} must tell the samples of a batch apart, as for OHEM, and it cannot. Leave out one of the "
            f"two."
        )
    recipe.swap(path, class_path, **own, **{key: recipe.get(f"{path}.{key}") for key in shared})


def _use_sigmoid(recipe: Recipe) -> None:
    recipe.swap("model.outputs", "lit_modules.outputs.SigmoidOutputs")


def _refuse_mixed_images(recipe: Recipe, name: str) -> None:
    if mixes := (recipe.get("data").get("init_args") or {}).get("mixes"):
        raise RecipeError(
            f"{name}: data.mixes has {', '.join(class_name(mix) for mix in mixes)}, and the loss needs one label an "
            f"image. Leave out one of the two."
        )

"""The tricks on the loss and the targets: what each must change, and what row 0 has in its place."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from ablations.parsing import build
from tests.ablations.tricks.case import Case
from tests.helpers.recipes import digits_recipe

FOLDER = TemporaryDirectory()  # is there as long as the tests run


def store_teacher() -> str:
    """Store the initial weights of the small digits network, and return the file."""
    path = Path(FOLDER.name) / "teacher.pt"
    with torch.random.fork_rng():
        torch.save(build(digits_recipe()).module.state_dict(), path)
    return str(path)


CASES = [
    Case("label_smoothing", {"model.loss.label_smoothing": 0.1}),
    Case("focal_loss", {"model.loss": "FocalLoss"}),
    Case("class_weighted_loss", {"model.loss": "ClassWeightedCrossEntropy"}),
    Case("ohem", {"model.loss": "OHEM"}),
    Case("binary_cross_entropy", {"model.loss": "BinaryCrossEntropy", "model.outputs": "SigmoidOutputs"}),
    Case("f_beta_loss", {"model.loss": "FBetaLoss", "model.outputs": "SigmoidOutputs"}),
    Case("lovasz_loss", {"model.loss": "LovaszHinge", "model.outputs": "SigmoidOutputs"}),
    Case("hinge_loss", {"model.loss": "MultiMarginLoss"}),
    Case("mse_loss", {"model.loss": "SquaredError"}),
    Case("mae_loss", {"model.loss": "AbsoluteError"}),
    Case("norm_face", {"model.head": "NormFace"}),
    Case("am_softmax", {"model.head": "AMSoftmax"}),
    Case("arc_face", {"model.head": "ArcFace"}),
    Case("large_margin_softmax", {"model.head": "LargeMarginSoftmax"}),
    Case("label_smoothing", {"model.detector.loss.label_smoothing": True}, base="digit_scenes"),
    Case("focal_loss", {"model.detector.loss.focal_gamma": 2.0}, base="digit_scenes"),
    Case("ohem", {"model.detector.loss.negatives_per_box": 3.0}, base="digit_scenes"),
    Case("distillation", {"model.distillation": "Distillation"}, {"teacher": store_teacher()}),
]

OFF = {
    "model.loss.label_smoothing": 0.0,
    "model.outputs": None,
    "model.head": None,
    "model.distillation": None,
}

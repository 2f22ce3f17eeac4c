"""What diagnostics need of a recipe."""

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ablations.check.finding import Need
from ablations.check.subject import Subject
from lit_modules import LitClassifier


def _has_labels(subject: Subject) -> bool:
    sets = getattr(subject.parts.datamodule, "sets", {})
    return bool(sets) and all(
        isinstance(targets := getattr(part, "targets", None), Tensor) and targets.ndim == 1 for part in sets.values()
    )


def _has_images(subject: Subject) -> bool:
    sets = getattr(subject.parts.datamodule, "sets", {})
    return bool(sets) and all(isinstance(getattr(part, "images", None), Tensor) for part in sets.values())


CLASSIFIER = Need("LitClassifier", lambda subject: isinstance(subject.parts.module, LitClassifier))
CROSS_ENTROPY = Need(
    "torch.nn.CrossEntropyLoss",
    lambda subject: isinstance(getattr(subject.parts.module, "loss", None), nn.CrossEntropyLoss),
)
SCORE_LOSS = Need(
    "a loss that takes scores: CrossEntropyLoss, BCEWithLogitsLoss or MultiLabelSoftMarginLoss of torch.nn",
    lambda subject: isinstance(
        getattr(subject.parts.module, "loss", None),
        nn.CrossEntropyLoss | nn.BCEWithLogitsLoss | nn.MultiLabelSoftMarginLoss,
    ),
)
BATCH_NORM = Need(
    "batch normalization",
    lambda subject: any(isinstance(part, _BatchNorm) for part in subject.parts.module.modules()),
)
LABELS = Need("a datamodule whose sets have a label for each image", _has_labels)
IMAGES_IN_MEMORY = Need("a datamodule whose images are in memory", _has_images)
CLASSES = Need("a datamodule that knows num_classes", lambda subject: hasattr(subject.parts.datamodule, "num_classes"))
RATE = Need(
    "a number at model.optimizer.lr", lambda subject: isinstance(subject.get("model.optimizer.lr"), float | int)
)

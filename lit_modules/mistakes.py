"""Pictures of images that were classified wrongly, the surest mistakes first."""

from collections.abc import Iterator, Sequence

import lightning as L
from torch import Tensor

from lit_modules.pictures import TaskPicture, displayed, images_of_test


def mistake_pictures(
    probabilities: Tensor, targets: Tensor, datamodule: L.LightningDataModule, most: int
) -> list[TaskPicture]:
    """Return pictures of wrongly classified test images, with true and predicted class.

    Args:
        probabilities: ``(N, K)``, in the order of the data set.
        targets: Classes ``(N,)``, or ``(N, K)``: zeros and ones where an image has several labels.
        datamodule: Its test images; if it has ``class_names``, they stand in the captions.
        most: How many at most.
    """
    names = getattr(datamodule, "class_names", None) or tuple(map(str, range(probabilities.shape[-1])))
    found = _wrong_labels if targets.ndim == 2 else _wrong_classes
    wrong = sorted(found(probabilities, targets, names), key=lambda mistake: (-mistake[0], mistake[1]))[:most]
    images = images_of_test(datamodule, [index for _, index, _ in wrong])
    return [TaskPicture(displayed(image), caption) for image, (_, _, caption) in zip(images, wrong, strict=True)]


def _wrong_classes(probabilities: Tensor, targets: Tensor, names: Sequence[str]) -> Iterator[tuple[float, int, str]]:
    """Yield how sure each mistake was, its place, and what it was."""
    sure, predicted = probabilities.max(dim=1)
    for index in (predicted != targets).nonzero().flatten().tolist():
        true, taken, share = int(targets[index]), int(predicted[index]), float(sure[index])
        yield share, index, f"{names[true]}, taken for {names[taken]} ({share:.0%})"


def _wrong_labels(probabilities: Tensor, targets: Tensor, names: Sequence[str]) -> Iterator[tuple[float, int, str]]:
    """Yield how far off the worst label of each wrongly labelled image was, its place, and what was wrong."""
    wrong = (probabilities > 0.5) != (targets > 0.5)
    worst = ((probabilities - targets).abs() * wrong).amax(dim=1)
    for index in wrong.any(dim=1).nonzero().flatten().tolist():
        said = [
            f"{word}: {', '.join(names[label] for label in which.nonzero().flatten().tolist())}"
            for word, which in (
                ("missed", wrong[index] & (targets[index] > 0.5)),
                ("not there", wrong[index] & (targets[index] <= 0.5)),
            )
            if which.any()
        ]
        yield float(worst[index]), index, "; ".join(said)

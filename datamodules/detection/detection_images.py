"""Images with boxes, of one size, a whole batch at a time; padded tensors, so that no later step loops over boxes."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from datamodules.decoding import in_threads
from datamodules.detection.annotations import AnnotatedImages
from datamodules.detection.fitting import fit_to_input
from datamodules.samplers import Draw

Targets = dict[str, Tensor]
Batch = tuple[Tensor, Targets]

_SMALLEST_SIDE = 1.0
_PADDING = {"boxes": 0.0, "labels": -1, "difficult": False, "crowd": False}


class DetectionImages(Dataset[Batch]):
    """Images with boxes, resized to one size.

    A `Draw` of an image passes through the transforms, an index does not. A transform gets and returns an image
    ``(3, H, W)`` uint8 and a dict with its ``boxes``, as torchvision's `tv_tensors`, and with ``labels``, ``difficult``
    and ``crowd``. After all of them boxes are clipped to the image, and dropped if a side is below one pixel, so
    `v2.SanitizeBoundingBoxes` is not needed.

    Args:
        source: The images.
        size: Side of the square that each becomes, in pixels.
        letterbox: Keep proportions, and fill the rest with grey; else stretch.
        transforms: From torchvision's v2, in order.
        in_memory: Decode and resize all images at once, and keep them as uint8.

    Raises:
        ValueError: If transforms drop some of what belongs to a box, and not all.
    """

    def __init__(
        self,
        source: AnnotatedImages,
        size: int,
        letterbox: bool = False,
        transforms: Sequence[nn.Module] = (),
        in_memory: bool = True,
    ) -> None:
        self.source = source
        self.size = size
        self.letterbox = letterbox
        self.transforms = list(transforms)
        self._held: tuple[Tensor, list[Targets]] | None = self._hold() if in_memory else None

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, wanted: int | Draw) -> tuple[Tensor, Targets]:
        """Image ``(3, size, size)`` uint8 and its targets, not padded."""
        if not isinstance(wanted, Draw):
            return self._fitted(wanted)
        if not self.transforms:
            return self._fitted(wanted.image)
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(wanted.random_seed())
            return self._transformed(wanted.image)

    def __getitems__(self, wanted: Sequence[Any]) -> Batch:
        """Images ``(B, 3, size, size)`` uint8 and targets, padded to the most boxes M of an image.

        Targets are ``boxes`` ``(B, M, 4)``, left, top, right, bottom in pixels of the input; ``labels`` ``(B, M)``, -1
        where there is no box; ``difficult`` and ``crowd`` ``(B, M)``; ``frames`` ``(B, 4)`` as `fit_to_input` has them.
        """
        images, targets = zip(*(self[each] for each in wanted), strict=True)
        padded = {
            name: nn.utils.rnn.pad_sequence([target[name] for target in targets], True, value)
            for name, value in _PADDING.items()
        }
        return torch.stack(images), padded | {"frames": torch.stack([target["frames"] for target in targets])}

    def _hold(self) -> tuple[Tensor, list[Targets]]:
        images = torch.empty(len(self), 3, self.size, self.size, dtype=torch.uint8)
        targets: list[Targets] = [{} for _ in range(len(self))]

        def fill(index: int) -> None:
            images[index], targets[index] = self._fit(*self._read(index))

        in_threads(fill, len(self))
        return images, targets

    def _read(self, index: int) -> tuple[Tensor, Targets]:
        image, targets = self.source.images[index], self.source.boxes_of(index)
        return image, {**targets, "boxes": _as_boxes(targets["boxes"], image)}

    def _fit(self, image: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
        boxes = targets["boxes"]
        assert isinstance(boxes, tv_tensors.BoundingBoxes)
        image, boxes, frame = fit_to_input(image, boxes, self.size, self.letterbox)
        return image.as_subclass(Tensor), {**targets, "boxes": boxes.as_subclass(Tensor), "frames": frame}

    def _fitted(self, index: int) -> tuple[Tensor, Targets]:
        if self._held is None:
            return self._fit(*self._read(index))
        images, targets = self._held
        return images[index], targets[index]

    def _transformed(self, index: int) -> tuple[Tensor, Targets]:
        if self._held is None:
            image, targets = self._read(index)
        else:
            image, targets = self._fitted(index)
            targets = {name: targets[name] for name in _PADDING} | {"boxes": _as_boxes(targets["boxes"], image)}
        sample: Any = (tv_tensors.Image(image), targets)
        for transform in self.transforms:
            sample = transform(*sample)
        image, targets = sample
        _check_lengths(targets)
        targets["boxes"] = functional.clamp_bounding_boxes(targets["boxes"])
        image, targets = self._fit(image, targets)
        boxes = targets["boxes"]
        kept = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST_SIDE).all(1)
        return image, {name: part if name == "frames" else part[kept] for name, part in targets.items()}


def _as_boxes(boxes: Tensor, image: Tensor) -> tv_tensors.BoundingBoxes:
    height, width = image.shape[-2:]
    return tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(height, width))


def _check_lengths(targets: Targets) -> None:
    lengths = {name: len(targets[name]) for name in _PADDING}
    if len(set(lengths.values())) > 1:
        left = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise ValueError(
            f"the transforms left {left} of an image. Leave out those that drop boxes, such as "
            f"SanitizeBoundingBoxes: boxes without area are dropped anyway."
        )

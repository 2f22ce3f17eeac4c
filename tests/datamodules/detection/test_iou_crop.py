"""RandomIoUCrop: the crops of a loop over its trials, and torchvision's distribution."""

from typing import Any

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from datamodules import RandomIoUCrop

HEIGHT, WIDTH = 60, 80
BOXES = torch.tensor([[5.0, 5, 35, 45], [30, 10, 75, 50], [2, 40, 12, 58]])


def sample(boxes: Tensor = BOXES) -> tuple[Any, Any]:
    image = tv_tensors.Image(torch.arange(HEIGHT * WIDTH, dtype=torch.int32).view(1, HEIGHT, WIDTH))
    return image, tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH))


def iou(first: list[float], second: list[float]) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return overlap / (sum(areas) - overlap)


def loop(options: list[float], trials: int, min_scale: float) -> dict[str, Any]:
    """Try one crop after the other, as in torchvision, with the transform's draws."""
    while True:
        least = options[int(torch.randint(len(options), ()))]
        if least >= 1:
            return {}
        for draw in torch.rand(trials, 4):
            width, height = (
                int(WIDTH * (min_scale + (1 - min_scale) * draw[0])),
                int(HEIGHT * (min_scale + (1 - min_scale) * draw[1])),
            )
            left, top = int((WIDTH - width) * draw[2]), int((HEIGHT - height) * draw[3])
            if not width or not height or not 0.5 <= width / height <= 2:
                continue
            right, bottom = left + width, top + height
            centers = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in BOXES.tolist()]
            inside = [left < x < right and top < y < bottom for x, y in centers]
            overlaps = [iou(box, [left, top, right, bottom]) for box in BOXES.tolist()]
            if any(is_in and overlap >= least for is_in, overlap in zip(inside, overlaps, strict=True)):
                return {"top": top, "left": left, "height": height, "width": width, "is_within_crop_area": inside}


@pytest.mark.parametrize("min_scale", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("option", [0.0, 0.1, 0.5, 0.7])
def test_crops_are_those_of_a_loop_over_the_trials(option: float, min_scale: float) -> None:
    crop = RandomIoUCrop(min_scale=min_scale, sampler_options=[option, 1.0], trials=5)
    for seed in range(20):
        torch.manual_seed(seed)
        found = crop.make_params(list(sample()))
        torch.manual_seed(seed)
        expected = loop([option, 1.0], 5, min_scale)
        assert {name: part.tolist() if isinstance(part, Tensor) else part for name, part in found.items()} == expected


def test_crops_have_torchvisions_distribution() -> None:
    torch.manual_seed(0)
    ours, theirs = (
        [make.make_params(list(sample())) for _ in range(300)] for make in (RandomIoUCrop(), v2.RandomIoUCrop())
    )
    whole = dict.fromkeys(("top", "left", "height", "width"), -1)
    for name in whole:
        assert (
            ks_2samp([{**whole, **each}[name] for each in ours], [{**whole, **each}[name] for each in theirs]).pvalue
            > 1e-3
        )


def test_image_and_boxes_are_cut_alike() -> None:
    torch.manual_seed(1)
    crop = RandomIoUCrop(sampler_options=[0.3])
    image, boxes = crop(*sample())
    torch.manual_seed(1)
    params = crop.make_params(list(sample()))
    top, left = params["top"], params["left"]
    assert torch.equal(image, sample()[0][:, top : top + params["height"], left : left + params["width"]])
    kept = params["is_within_crop_area"]
    shifted = (BOXES - torch.tensor([left, top, left, top]))[kept]
    limits = torch.tensor([params["width"], params["height"]] * 2)
    assert torch.equal(boxes[kept], shifted.clamp(min=0).minimum(limits)) and not boxes[~kept].any()


def test_an_image_without_boxes_stays_as_it_is() -> None:
    image, boxes = RandomIoUCrop()(*sample(torch.zeros(0, 4)))
    assert image.shape == (1, HEIGHT, WIDTH) and len(boxes) == 0

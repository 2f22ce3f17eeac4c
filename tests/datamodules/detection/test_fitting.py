"""Images of any size, brought to one, with their boxes."""

import pytest
import torch
from torchvision import tv_tensors

from datamodules.detection import fit_to_input, unfit_boxes


def paint(height: int, width: int, box: tuple[int, int, int, int]) -> tuple[torch.Tensor, tv_tensors.BoundingBoxes]:
    """A white box on black."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    left, top, right, bottom = box
    image[:, top:bottom, left:right] = 255
    boxes = tv_tensors.BoundingBoxes([[float(edge) for edge in box]], format="XYXY", canvas_size=(height, width))
    return image, boxes


def edges_of_white(image: torch.Tensor) -> list[float]:
    white = image[0] > 200
    columns, rows = white.any(0).nonzero(), white.any(1).nonzero()
    return [float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1)]


SHAPES = pytest.mark.parametrize("shape", [(48, 64), (64, 48), (64, 64), (30, 101), (200, 120)])
LETTERBOX = pytest.mark.parametrize("letterbox", [False, True])


@SHAPES
@LETTERBOX
def test_a_box_stays_on_its_object(shape, letterbox):
    image, boxes = paint(*shape, (8, 4, 24, 22))
    fitted, moved, _ = fit_to_input(image, boxes, 64, letterbox)
    assert fitted.shape == (3, 64, 64)
    assert moved[0].tolist() == pytest.approx(edges_of_white(fitted), abs=1.01)


@SHAPES
@LETTERBOX
def test_boxes_come_back(shape, letterbox):
    image, boxes = paint(*shape, (8, 4, 24, 22))
    _, moved, frame = fit_to_input(image, boxes, 96, letterbox)
    torch.testing.assert_close(unfit_boxes(moved.as_subclass(torch.Tensor), frame), boxes.as_subclass(torch.Tensor))


def test_a_letterbox_keeps_proportions_and_fills_with_grey():
    image, boxes = paint(32, 64, (0, 0, 64, 32))
    fitted, moved, frame = fit_to_input(image, boxes, 96, letterbox=True)
    assert moved[0].tolist() == [0, 24, 96, 72]
    assert frame.tolist() == [1.5, 1.5, 0, 24]
    assert bool((fitted[:, :24] == 127).all()) and bool((fitted[:, 72:] == 127).all())


def test_an_image_without_boxes_is_fitted():
    image, boxes = paint(48, 64, (0, 0, 5, 5))
    none = tv_tensors.wrap(boxes[:0], like=boxes)
    _, moved, _ = fit_to_input(image, none, 32, letterbox=True)
    assert moved.shape == (0, 4)

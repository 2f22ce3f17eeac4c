"""Boxes that were found in a view, brought back to the image: the object in the view is where the box says."""

import pytest
import torch

from lit_modules.inference import CornerCropViews, HorizontalFlipViews, MultiScaleViews, Views

HEIGHT, WIDTH = 64, 96
BOX = (24, 16, 56, 32)
"""Left, top, right and bottom of the only bright rectangle."""


def image_with_an_object():
    image = torch.zeros(1, 1, HEIGHT, WIDTH)
    left, top, right, bottom = BOX
    image[..., top:bottom, left:right] = 1
    return image


def box_around(view):
    rows, columns = (view[0, 0] > 0.5).nonzero().unbind(1)
    return torch.tensor([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]).float()


@pytest.mark.parametrize(
    "views",
    [HorizontalFlipViews(), CornerCropViews(padding=3), MultiScaleViews([0.5, 1.5], divisor=32)],
    ids=lambda views: type(views).__name__,
)
def test_a_box_found_in_any_view_is_that_of_the_image(views):
    seen = views(image_with_an_object())
    found = [box_around(view) for view in seen]
    assert len({tuple(box.flatten().tolist()) for box in found}) == len(seen)
    for index, box in enumerate(found):
        restored = views.restore_boxes(box, index, (HEIGHT, WIDTH))
        assert torch.allclose(restored, torch.tensor([BOX]).float(), atol=1.0)  # a resized edge moves a little


def test_sides_are_rounded_to_multiples_of_the_divisor():
    shapes = [tuple(view.shape[-2:]) for view in MultiScaleViews([0.7, 1.3], divisor=32)(image_with_an_object())]
    assert shapes == [(64, 96), (32, 64), (96, 128)]


def test_a_divisor_below_one_is_refused():
    with pytest.raises(ValueError, match=r"MultiScaleViews: divisor is 0; it must be at least 1 pixel"):
        MultiScaleViews(divisor=0)


def test_views_without_a_way_back_say_so():
    with pytest.raises(NotImplementedError, match=r"Views cannot bring boxes back: give it a restore_boxes"):
        Views().restore_boxes(torch.zeros(1, 4), 0, (HEIGHT, WIDTH))

"""Batches of images with boxes, and their random transforms."""

import pytest
import torch
from torchvision.transforms import v2

from datamodules.detection import AnnotatedImages, DetectionImages
from datamodules.samplers import Draw

SIZE = 64


def make_source(images: int = 4) -> AnnotatedImages:
    """Image n has n boxes, each white on black."""
    pixels = torch.zeros(images, 3, SIZE, SIZE, dtype=torch.uint8)
    boxes = []
    for image in range(images):
        for place in range(image):
            box = [2 + 16 * place, 5 + 8 * place, 14 + 16 * place, 25 + 9 * place]
            pixels[image, :, box[1] : box[3], box[0] : box[2]] = 255
            boxes.append(box)
    counts = torch.arange(images)
    flags = torch.zeros(len(boxes), dtype=torch.bool)
    return AnnotatedImages(
        pixels,
        torch.tensor(boxes).float(),
        torch.arange(len(boxes)) % 3,
        flags,
        ~flags,
        torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
    )


def draws(images: int = 4, epoch: int = 0) -> list[Draw]:
    return [Draw(image, 0, epoch, image) for image in range(images)]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_batch_is_padded_to_its_most_boxes(in_memory):
    images, targets = DetectionImages(make_source(), SIZE, in_memory=in_memory).__getitems__([3, 0, 1])
    assert images.shape == (3, 3, SIZE, SIZE) and images.dtype == torch.uint8
    assert targets["boxes"].shape == (3, 3, 4)
    assert targets["labels"].tolist() == [[0, 1, 2], [-1, -1, -1], [0, -1, -1]]
    assert targets["crowd"].tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert targets["frames"].tolist() == [[1, 1, 0, 0]] * 3


def test_a_batch_without_any_box_is_a_batch():
    _, targets = DetectionImages(make_source(), SIZE).__getitems__([0])
    assert targets["boxes"].shape == (1, 0, 4)


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("letterbox", [True, False])
def test_boxes_stay_on_their_objects_through_transforms(in_memory, letterbox):
    transforms = [
        v2.RandomHorizontalFlip(0.5),
        v2.RandomZoomOut(side_range=(1.0, 2.0)),
        v2.RandomResizedCrop((48, 80), scale=(0.6, 1), antialias=True),
        v2.ColorJitter(0.2),
    ]
    images = DetectionImages(make_source(2), SIZE, letterbox, transforms, in_memory)
    seen = 0
    for epoch in range(20):
        image, targets = images[Draw(1, 0, epoch, 0)]
        white = image.float().mean(0) > 140
        for left, top, right, bottom in targets["boxes"].tolist():
            seen += 1
            rows, columns = white.any(1).nonzero(), white.any(0).nonzero()
            edges = [columns.min().item(), rows.min().item(), columns.max().item() + 1, rows.max().item() + 1]
            assert [left, top, right, bottom] == pytest.approx(edges, abs=2)
    assert seen > 10


def test_a_flip_round_trips():
    source = make_source()
    twice = DetectionImages(source, SIZE, transforms=[v2.RandomHorizontalFlip(1.0), v2.RandomHorizontalFlip(1.0)])
    plain = DetectionImages(source, SIZE)
    flipped, expected = twice.__getitems__(draws()), plain.__getitems__(range(4))
    assert torch.equal(flipped[0], expected[0])
    assert torch.equal(flipped[1]["boxes"], expected[1]["boxes"])


def test_an_index_is_not_transformed():
    images = DetectionImages(make_source(), SIZE, transforms=[v2.RandomHorizontalFlip(1.0)])
    assert torch.equal(images[3][0], make_source().images[3])


def test_random_transforms_follow_from_the_draw_and_leave_the_generator_alone():
    images = DetectionImages(make_source(), SIZE, transforms=[v2.RandomHorizontalFlip(0.5), v2.ColorJitter(0.5)])
    before = torch.get_rng_state()
    first, again, other = (images.__getitems__(draws(epoch=epoch))[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_boxes_that_a_transform_moves_out_are_dropped_with_what_belongs_to_them():
    class MoveLeft(v2.Transform):
        def transform(self, inpt, params):
            return v2.functional.affine(inpt, angle=0.0, translate=[-20, 0], scale=1.0, shear=[0.0, 0.0])

    images = DetectionImages(make_source(), SIZE, transforms=[MoveLeft()])
    _, targets = images[Draw(3, 0, 0, 0)]
    assert targets["boxes"].tolist() == [[0, 13, 10, 34], [14, 21, 26, 43]]
    assert targets["labels"].tolist() == [1, 2]
    assert targets["crowd"].tolist() == [True, True]


def test_images_in_memory_are_not_changed_by_transforms():
    images = DetectionImages(make_source(), SIZE, transforms=[v2.RandomZoomOut(p=1.0), v2.RandomInvert(1.0)])
    before = images.__getitems__(range(4))
    images.__getitems__(draws())
    after = images.__getitems__(range(4))
    assert torch.equal(before[0], after[0])
    assert torch.equal(before[1]["boxes"], after[1]["boxes"])


def test_transforms_that_drop_only_a_part_are_refused():
    images = DetectionImages(make_source(), SIZE, transforms=[v2.SanitizeBoundingBoxes(min_size=15)])
    with pytest.raises(ValueError, match=r"transforms left 0 boxes, 0 labels, 2 difficult, 2 crowd of an image"):
        images[Draw(2, 0, 0, 0)]

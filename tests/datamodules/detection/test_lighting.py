"""Random light of one image with boxes."""

import pytest
import torch
from torchvision import tv_tensors

from datamodules.detection import PCALighting
from datamodules.transforms import BatchPCALighting


def test_an_image_is_shifted_as_one_of_a_batch_is_and_its_boxes_stay():
    image = torch.randint(256, (3, 6, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[0.0, 1, 4, 5]]), format="XYXY", canvas_size=(6, 5))
    labels = torch.tensor([2])
    torch.manual_seed(0)
    shifted, targets = PCALighting(sd=2.0)(tv_tensors.Image(image), {"boxes": boxes, "labels": labels})
    torch.manual_seed(0)
    expected = BatchPCALighting(sd=2.0)(image[None] / 255)[0] * 255
    assert isinstance(shifted, tv_tensors.Image)
    assert shifted.dtype == torch.uint8
    assert not torch.equal(shifted, image)
    torch.testing.assert_close(shifted.as_subclass(torch.Tensor).float(), expected, atol=0.51, rtol=0)
    assert targets["boxes"].tolist() == boxes.tolist()
    assert targets["labels"].tolist() == [2]


def test_a_negative_strength_is_refused():
    with pytest.raises(ValueError, match="sd is -1; it must not be negative"):
        PCALighting(-1)

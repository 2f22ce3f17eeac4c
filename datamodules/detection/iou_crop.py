"""Random crops around boxes, all trials at once."""

from typing import Any

import torch
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


class RandomIoUCrop(v2.RandomIoUCrop):
    """Cut out a random part of an image that overlaps a box by an IoU drawn from a few; Liu et al., arXiv:1512.02325.

    torchvision's transform tries one crop after the other. Where boxes are small beside the image, most trials fail,
    and it takes as long as a small detector's training step. Here all trials for a drawn IoU are made at once; of those
    that fit the first is taken, so that crops have torchvision's distribution. Arguments and result are torchvision's.

    Example::

        VOCFolder(folder="bccd", transforms=[RandomIoUCrop(min_scale=0.5)])
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        (boxes,) = (each for each in flat_inputs if isinstance(each, tv_tensors.BoundingBoxes))
        corners = functional.convert_bounding_box_format(boxes, new_format=tv_tensors.BoundingBoxFormat.XYXY)
        corners = corners.as_subclass(torch.Tensor).float()
        centers = (corners[:, :2] + corners[:, 2:]) / 2
        height, width = boxes.canvas_size
        canvas = torch.tensor([width, height])
        while True:
            least_iou = self.options[int(torch.randint(len(self.options), ()))]
            if least_iou >= 1:  # the image stays as it is
                return {}
            draws = torch.rand(self.trials, 4)
            sizes = (canvas * (self.min_scale + (self.max_scale - self.min_scale) * draws[:, :2])).floor()
            starts = ((canvas - sizes) * draws[:, 2:]).floor()
            crops = torch.cat([starts, starts + sizes], 1)
            ratios = sizes[:, 0] / sizes[:, 1]
            fits = (ratios >= self.min_aspect_ratio) & (ratios <= self.max_aspect_ratio) & (sizes > 0).all(1)
            inside = ((crops[:, None, :2] < centers) & (centers < crops[:, None, 2:])).all(2)
            fits &= (inside & (box_iou(crops, corners) >= least_iou)).any(1)
            if fits.any():
                first = int(fits.int().argmax())  # argmax returns the first of equals
                left, top, right, bottom = crops[first].int().tolist()
                size = {"height": bottom - top, "width": right - left}
                return {"top": top, "left": left, **size, "is_within_crop_area": inside[first]}

"""From a detector's outputs to the boxes that it finds."""

from typing import TypedDict

from torch import Tensor
from torchvision.ops import batched_nms, clip_boxes_to_image

from lit_modules.models.detection.grid import YOLOOutputs


class Detections(TypedDict):
    """What was found on one image, best score first: ``boxes`` ``(D, 4)``, ``scores`` ``(D,)``, ``labels`` ``(D,)``."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class YOLODetections:
    """Makes detections of a YOLO network's outputs.

    The score is objectness times the class's probability and, where the network tells the variances of its boxes, times
    1 - their mean (arXiv:1904.04620, equation 7). A slot may give boxes of several classes. Of boxes of one class that
    overlap, non-maximum suppression keeps the best. Defaults are GluonCV's.

    Args:
        score_threshold: Boxes with a lower score are left out.
        nms_iou: Of two boxes of a class with a larger IoU, only the better stays.
        candidates: How many boxes of an image, the best, go into the suppression.
        top_k: How many boxes of an image come out at most.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self, score_threshold: float = 0.01, nms_iou: float = 0.45, candidates: int = 400, top_k: int = 100
    ) -> None:
        shares = {"score_threshold": score_threshold, "nms_iou": nms_iou}
        counts = {"candidates": candidates, "top_k": top_k}
        problems = [
            f"{name} is {share}; it must be from 0 to 1." for name, share in shares.items() if not 0 <= share <= 1
        ]
        problems += [f"{name} is {count}; it must be at least 1." for name, count in counts.items() if count < 1]
        if problems:
            raise ValueError("YOLODetections: " + " ".join(problems))
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self.candidates = candidates
        self.top_k = top_k

    def __call__(self, outputs: YOLOOutputs) -> list[Detections]:
        """Return the detections of each image; boxes are clipped to the image."""
        raw, grid, variances = outputs
        raw = raw.float()
        boxes = grid.decode(raw)
        scores = raw[..., 4:5].sigmoid() * raw[..., 5:].sigmoid()
        if variances is not None:
            scores = scores * (1 - variances.float().sigmoid().mean(-1, keepdim=True))
        classes = scores.shape[-1]
        best, places = scores.flatten(1).topk(min(self.candidates, scores[0].numel()))
        boxes = boxes.gather(1, (places // classes)[..., None].expand(-1, -1, 4))
        rows, columns = grid.shapes[0]
        boxes = clip_boxes_to_image(boxes, (rows * grid.scale_strides[0], columns * grid.scale_strides[0]))
        return [self._suppress(*image) for image in zip(boxes, best, places % classes, strict=True)]

    def _suppress(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Detections:
        enough = scores >= self.score_threshold
        boxes, scores, labels = boxes[enough], scores[enough], labels[enough]
        kept = batched_nms(boxes, scores, labels, self.nms_iou)[: self.top_k]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}

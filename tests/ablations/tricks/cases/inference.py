"""The tricks on the scoring of a trained network: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("tta_crops", {"inference.views": "CornerCropViews"}),
    Case("tta_flip", {"inference.views": "HorizontalFlipViews"}),
    Case("tta_multi_scale", {"inference.views": "MultiScaleViews"}),
]

OFF = {
    "inference.views": None,
}

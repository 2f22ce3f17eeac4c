"""The tricks on the scoring of a trained network: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("tta_crops", {"inference.views": "CornerCropViews"}),
    Case("tta_flip", {"inference.views": "HorizontalFlipViews"}),
    Case("tta_multi_scale", {"inference.views": "MultiScaleViews"}),
    Case("tta_flip", {"inference.views": "HorizontalFlipViews"}, base="digit_scenes"),
    Case("tta_crops", {"inference.views": "CornerCropViews"}, base="digit_scenes"),
    Case("tta_multi_scale", {"inference.views": "MultiScaleViews"}, {"scales": [0.5, 1.5]}, base="digit_scenes"),
]

OFF = {
    "inference.views": None,
}

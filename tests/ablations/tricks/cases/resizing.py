"""The tricks on the size of the training images: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case(
        "multi_scale_training",
        {"trainer.callbacks.MultiScale": "MultiScale"},
        {"smallest": 6, "largest": 10, "divisor": 2, "every_n_batches": 1},
    ),
    Case(
        "multi_scale_training",
        {"trainer.callbacks.MultiScale": "MultiScale"},
        {"smallest": 32, "largest": 96, "every_n_batches": 1},
        base="digit_scenes",
    ),
    Case(
        "progressive_resizing",
        {"trainer.callbacks.ProgressiveResizing": "ProgressiveResizing"},
        {"sizes": [4, 6], "divisor": 2},
    ),
]

OFF: dict[str, object] = {}

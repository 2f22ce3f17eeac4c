"""The tricks on which images are drawn: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("class_balanced_sampling", {"data.class_balanced": True}),
    Case("small_subset", {"data.train_fraction": 0.5}, {"fraction": 0.5}),
]

OFF = {
    "data.class_balanced": False,
    "data.train_fraction": 1.0,
}

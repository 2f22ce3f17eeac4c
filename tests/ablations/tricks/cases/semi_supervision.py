"""The tricks that train on images without labels: what each must change."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("mean_teacher", {"trainer.callbacks.MeanTeacher": "MeanTeacher", "inference.weights": "teacher"}),
    Case(
        "pseudo_labels",
        {"trainer.callbacks.PseudoLabels": "PseudoLabels"},
        {"threshold": 0.1, "start_epoch": 1, "every_n_epochs": 1},
    ),
]

OFF = {
    "inference.weights": "last",
    "trainer.callbacks": None,
}

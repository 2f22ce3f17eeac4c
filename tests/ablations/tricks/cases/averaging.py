"""The tricks on the choice and the averaging of weights: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

CASES = [
    Case("ema", {"trainer.callbacks.EMA": "EMA", "inference.weights": "ema"}),
    Case("swa", {"trainer.callbacks.SWA": "SWA", "inference.weights": "swa"}, {"start_fraction": 0.5}),
    Case(
        "snapshot_ensemble",
        {
            "trainer.callbacks.SnapshotEnsemble": "SnapshotEnsemble",
            "inference.weights": "snapshots",
            "model.schedule": "CosineCycles",
        },
        {"cycles": 2},
    ),
    Case("early_stopping", {"trainer.callbacks.BestWeights": "BestWeights", "inference.weights": "best"}),
    Case(
        "early_stopping",
        {"trainer.callbacks.BestWeights": "BestWeights", "inference.weights": "best"},
        base="digit_scenes",
    ),
]

OFF = {
    "inference.weights": "last",
    "trainer.callbacks": None,
}

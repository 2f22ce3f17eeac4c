"""The tricks on several networks together: what each must change, and what row 0 has in its place."""

from tests.ablations.tricks.case import Case

OTHER = {"members": ["row:base"]}
CASES = [
    Case("seed_ensemble", {"inference.ensemble": "SoftVoting"}, {"members": 2}),
    Case("voting", {"inference.ensemble": "HardVoting"}, OTHER),
    Case("soft_voting", {"inference.ensemble": "SoftVoting"}, OTHER),
    Case("stacking", {"inference.ensemble": "Stacking"}, OTHER),
    Case("feature_fusion", {"inference.ensemble": "FeatureFusion"}, {**OTHER, "weights": [1.0, 0.5]}),
]

OFF = {"inference.ensemble": None}

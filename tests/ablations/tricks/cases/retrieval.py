"""The tricks on retrieval: what each must change, and what row 0 has in its place."""

from typing import Any

from tests.ablations.tricks.case import Case


def case(name: str, changed: dict[str, Any], **arguments: Any) -> Case:
    """Return the case of a trick on the small retrieval base."""
    return Case(name, changed, arguments, base="digits_retrieval")


CASES = [
    case("pk_sampling", {"data.identities_per_batch": 4, "data.images_per_identity": 5}, identities=4, images=5),
    case("triplet_loss", {"model.feature_losses.FeatureLoss": "FeatureLoss"}),
    case("center_loss", {"model.center_weight": 5e-4}),
    case("bnneck", {"model.neck": "batch_norm", "inference.distance": "cosine"}),
    case("neck_feature", {"inference.feature": "after", "inference.distance": "cosine"}),
    case("part_features", {"model.branches": "PartFeatures"}, parts=2, width=4),
    case("multi_granularity", {"model.branches": "MultiGranularity"}, granularities=[1, 2], width=4),
    case("re_ranking", {"inference.re_ranking": {"k1": 20, "k2": 6, "original_weight": 0.3}}),
    case("query_expansion", {"inference.query_expansion": {"neighbours": 10, "alpha": 0.0}}),
]

OFF = {
    "model.feature_losses": [],
    "model.center_weight": None,
    "model.neck": None,
    "model.branches": None,
    "inference.feature": None,
    "inference.distance": None,
    "inference.re_ranking": None,
    "inference.query_expansion": None,
}

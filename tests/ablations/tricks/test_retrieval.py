"""The tricks that retrieval shares with other tasks: each trains, and the numbers that it sets arrive."""

import importlib
import pkgutil

import pytest
import torch

from ablations.errors import RecipeError
from ablations.parsing import build, resolve_edits
from ablations.recipe import Recipe
from ablations.registry import tricks
from lit_modules.inference import QueryExpansion, Ranking, ReRanking
from lit_modules.losses import BatchHardTripletLoss
from lit_modules.models import BNNeck
from tests.ablations.tricks import cases
from tests.ablations.tricks.case import base_recipe, edited, train

CASES = [
    case
    for module in pkgutil.iter_modules(cases.__path__)
    for case in importlib.import_module(f"{cases.__name__}.{module.name}").CASES
]
SHARED = {case.name: case for case in CASES if case.base == "digits" and "retrieval" in tricks()[case.name].tasks}
AUGMENTATIONS = {name for name, case in SHARED.items() if all(path.startswith("data.tr") for path in case.changed)}
OTHERWISE = {
    "early_stopping": {"monitor": "val/map"},
    "reduce_on_plateau": {"monitor": "val/map"},
    "linear_lr_scaling": {"factor": 0.4},
    "large_batch": {"factor": 0.4},
}
"""Arguments where those of the case are for another task."""
ELSEWHERE = {"lr_finder", "pretrained_backbone", "replace_head", "feature_fusion"} | (
    AUGMENTATIONS - {"random_erasing"}
)
"""Tricks that need a search, a file or another row; and those that no module sees, but for one."""


def retrieval(name, before=None, **arguments):
    """Return the small retrieval base with a trick."""
    recipe = Recipe(base_recipe("digits_retrieval"))
    for path, value in (before or {}).items():
        recipe.set(path, value)
    base = recipe.config
    return resolve_edits(base, edited(name, base, **arguments))


@pytest.mark.parametrize("name", sorted(set(SHARED) - ELSEWHERE))
def test_a_shared_trick_trains_a_retriever(name):
    case = SHARED[name]
    before = {path: value for path, value in case.before.items() if not path.startswith("data")}
    before.pop("model.network.in_channels", None)
    recipe = retrieval(name, before, **{**case.arguments, **OTHERWISE.get(name, {})})
    module = train(recipe, max_epochs=4, limit_train_batches=1, check_val_every_n_epoch=4)
    assert torch.isfinite(module.trainer.callback_metrics["train/loss"])
    assert 0 < module.trainer.callback_metrics["val/map"] <= 1


def test_what_tricks_set_arrives():
    config = base_recipe("digits_retrieval")
    for name, arguments in (
        ("triplet_loss", {"margin": 0.2, "weight": 0.5}),
        ("bnneck", {}),
        ("center_loss", {"weight": 1e-3, "lr": 0.1}),
        ("re_ranking", {"k1": 5, "k2": 2, "original_weight": 0.1}),
        ("query_expansion", {"neighbours": 3}),
        ("arc_face", {}),
    ):
        config = resolve_edits(config, edited(name, config, **arguments))
    parts = build(config)
    module = parts.module
    (triplet,) = module.feature_losses
    assert isinstance(triplet.loss, BatchHardTripletLoss) and (triplet.loss.margin, triplet.weight) == (0.2, 0.5)
    assert isinstance(module.network.neck, BNNeck) and type(module.network.fc).__name__ == "ArcFace"
    assert (module.center_weight, module.center_lr) == (1e-3, 0.1)
    module.inference = parts.inference
    assert module.ranking() == Ranking("cosine", ReRanking(5, 2, 0.1), QueryExpansion(3, 0.0))


@pytest.mark.parametrize(("first", "second"), [("bnneck", "multi_granularity"), ("part_features", "bnneck")])
def test_a_neck_that_would_have_no_place_is_refused(first, second):
    config = retrieval(first)
    with pytest.raises(RecipeError, match="place"):
        edited(second, config)

"""Tricks on the network; the networks themselves are tested with lit_modules."""

from typing import Any

import lightning as L
import pytest

from ablations.errors import RecipeError
from ablations.parsing import build, resolve_edits
from ablations.recipe import Recipe, component
from lit_modules.models.equal_flops import count_flops
from tests.ablations.tricks.case import QUIET, apply, edited
from tests.ablations.tricks.cases.architecture import CASES
from tests.helpers.recipes import digits_recipe


def bottleneck() -> dict[str, Any]:
    return digits_recipe(model__network__block="bottleneck")


@pytest.mark.parametrize("name", ["resnet_b", "resnet_c", "resnet_d"])
def test_each_variant_of_bottlenecks_brings_the_one_before_along(name: str) -> None:
    switches = ["stride_in_3x3", "deep_stem", "avg_pool_shortcut"]
    edit = Recipe(edited(name, bottleneck()))
    on = [switch for switch in switches if edit.get(f"model.network.{switch}")]
    assert on == switches[: "bcd".index(name[-1]) + 1]


def test_resnet_b_of_basic_blocks_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"model\.network\.block is 'basic', whose stride is on a 3x3 already"):
        edited("resnet_b")


def test_stacking_needs_a_kernel_of_five() -> None:
    with pytest.raises(RecipeError, match=r"model\.network\.kernel is 3, which leaves nothing to stack"):
        edited("stacked_3x3")


@pytest.mark.parametrize("name", ["deeper_thinner", "wider_first_layer"])
def test_depth_and_width_are_traded_at_equal_operations(name: str) -> None:
    before, after = apply(next(case for case in CASES if case.name == name))
    costs = [count_flops(Recipe(recipe).get("model.network")["init_args"]) for recipe in (before, after)]
    assert costs[1] == pytest.approx(costs[0], rel=0.05)


@pytest.mark.parametrize("name", ["deeper_thinner", "wider_first_layer"])
def test_what_cannot_be_traded_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match=r"^model\.network: .*factor is 1; it must be above 1"):
        edited(name, **{"depth_factor" if name == "deeper_thinner" else "factor": 1})
    other = Recipe(digits_recipe())
    other.config["model"]["init_args"]["network"] = component("torchvision.models.resnet18", {"num_classes": 10})
    with pytest.raises(RecipeError, match=r"torchvision\.models\.resnet18.*cannot be counted; use lit_modules"):
        edited(name, other.config)


@pytest.mark.parametrize(
    ("name", "arguments", "path", "value"),
    [
        ("squeeze_excite", {"reduction": 4}, "squeeze_excite", 4),
        ("stochastic_depth", {"p": 0.5}, "stochastic_depth", 0.5),
        ("separable_conv", {"width_factor": 3}, "width", 12),
        ("dropout", {"p": 0.4}, "dropout", 0.4),
    ],
)
def test_the_arguments_of_a_trick_reach_the_network(
    name: str, arguments: dict[str, Any], path: str, value: Any
) -> None:
    assert Recipe(edited(name, **arguments)).get(f"model.network.{path}") == value


@pytest.mark.parametrize(
    "names",
    [
        ["resnet_d", "squeeze_excite", "stochastic_depth", "blur_pool", "gem_pooling", "prelu"],
        ["acnet", "zero_gamma", "dual_pooling", "leaky_relu", "last_stride_1"],
        ["dense_shortcut", "group_norm", "separable_conv"],
        ["ibn", "asymmetric_conv", "no_shortcut"],
    ],
    ids="+".join,
)
def test_tricks_on_different_switches_stack(names: list[str]) -> None:
    base = digits_recipe()
    recipe = base
    for name in names:
        recipe = edited(name, recipe)
    assert build(resolve_edits(base, recipe)).module.network.fc.out_features == 10


@pytest.mark.parametrize("width_factor", [2, 3])
def test_a_pruned_network_has_no_more_parameters_than_the_small_one_and_nearly_as_many(width_factor: int) -> None:
    base = digits_recipe()
    small = sum(parameter.numel() for parameter in build(base).module.parameters())
    recipe = resolve_edits(base, edited("prune_large", base, width_factor=width_factor, start_fraction=0.0))
    parts = build(recipe)
    assert sum(parameter.numel() for parameter in parts.module.parameters()) > (width_factor - 0.5) ** 2 * small
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, "max_epochs": 1, "limit_val_batches": 0})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    left = sum(int((parameter != 0).sum()) for parameter in parts.module.parameters())
    assert 0.9 * small < left <= small


def test_pruning_of_a_network_that_is_not_larger_is_refused() -> None:
    with pytest.raises(RecipeError, match="prune_large: width_factor=1 makes nothing larger; it must be 2 or more"):
        edited("prune_large", width_factor=1)

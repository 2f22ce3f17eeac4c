"""Which parameters of the digits network move under each way to fine-tune, epoch by epoch."""

from typing import Any

import lightning as L
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ablations.errors import RecipeError
from ablations.parsing import build, resolve
from ablations.recipe import Recipe
from tests.ablations.tricks.case import QUIET, edited
from tests.ablations.tricks.cases.fine_tuning import CASES
from tests.helpers.recipes import digits_recipe

STEM, STAGES, HEAD = {"conv1", "bn1"}, {"layer1", "layer2", "layer3"}, {"fc"}
EPOCHS = 4


class Moves(L.Callback):
    """Records which of the network's layers each epoch moved, statistics included, and the rates of the groups."""

    def __init__(self) -> None:
        self.moved: list[set[str]] = []
        self.rates: list[list[float]] = []
        self.before: dict[str, Tensor] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.before = {name: tensor.clone() for name, tensor in pl_module.network.state_dict().items()}

    def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        self.rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        after = pl_module.network.state_dict()
        self.moved.append({name.split(".")[0] for name in after if not torch.equal(after[name], self.before[name])})


def train(recipe: dict[str, Any]) -> tuple[Moves, L.LightningModule]:
    """Train a recipe with its own callbacks from seed 0; return what moved, and the module."""
    L.seed_everything(0)
    parts, moves = build(resolve(recipe)), Moves()
    callbacks = [*(parts.trainer_arguments.get("callbacks") or []), moves]
    arguments = {"max_epochs": EPOCHS, "limit_train_batches": 2, "limit_val_batches": 0}
    trainer = L.Trainer(**{**parts.trainer_arguments, **QUIET, **arguments, "callbacks": callbacks})
    trainer.fit(parts.module, datamodule=parts.datamodule)
    return moves, parts.module


def pretrained(**arguments: Any) -> dict[str, Any]:
    """Return the digits base with the weights of the case."""
    return edited("pretrained_backbone", **{**CASES[0].arguments, **arguments})


def test_without_a_trick_everything_moves() -> None:
    assert train(digits_recipe())[0].moved == [STEM | STAGES | HEAD] * EPOCHS


def test_a_pretrained_backbone_starts_from_the_file_and_everything_moves() -> None:
    L.seed_everything(0)
    plain = build(digits_recipe()).module.network.state_dict()
    L.seed_everything(0)
    loaded = build(pretrained()).module.network.state_dict()
    file = load_file(CASES[0].arguments["weights"])
    for name, tensor in loaded.items():
        assert torch.equal(tensor, plain[name] if name.startswith("fc.") else file[name])
    assert train(pretrained())[0].moved == [STEM | STAGES | HEAD] * EPOCHS


def test_a_head_of_another_shape_is_an_error_unless_it_is_skipped() -> None:
    with pytest.raises(ValueError, match=r"Other shapes: fc.weight \(4, 16\) for \(10, 16\)"):
        build(pretrained(skip=()))


@pytest.mark.parametrize(("fraction", "epochs"), [(0.25, 1), (0.5, 2), (0.75, 3)])
def test_the_backbone_is_frozen_for_the_first_part_of_the_run(fraction: float, epochs: int) -> None:
    moves, _ = train(edited("freeze_backbone_then_unfreeze", pretrained(), until_fraction=fraction))
    assert moves.moved == [HEAD] * epochs + [STEM | STAGES | HEAD] * (EPOCHS - epochs)


def test_shallow_layers_stay_frozen() -> None:
    assert train(edited("freeze_shallow", pretrained()))[0].moved == [{"layer2", "layer3", "fc"}] * EPOCHS
    assert train(edited("freeze_shallow", layers=["conv1"]))[0].moved == [{"bn1", "fc"} | STAGES] * EPOCHS


def test_a_replaced_head_is_trained_alone() -> None:
    moves, module = train(edited("replace_head", pretrained()))
    assert moves.moved == [HEAD] * EPOCHS
    file = load_file(CASES[0].arguments["weights"])
    state = module.network.state_dict()
    assert all(torch.equal(state[name], file[name]) for name in state if not name.startswith("fc."))


def test_a_replaced_head_is_not_loaded() -> None:
    recipe = Recipe(edited("replace_head", pretrained(skip=["bn1"])))
    assert recipe.get("model.init.skip") == ["bn1", "fc"]
    assert Recipe(edited("replace_head", pretrained())).get("model.init.skip") == ["fc"]


def test_lower_layers_have_lower_rates_all_along_the_run() -> None:
    moves, _ = train(edited("discriminative_lr", edited("cosine_schedule", pretrained()), divisor=2.0))
    assert moves.moved == [STEM | STAGES | HEAD] * EPOCHS
    assert len({rates[0] for rates in moves.rates}) == 2 * EPOCHS
    for rates in moves.rates:
        assert rates == pytest.approx([rates[0] / 2**depth for depth in range(5)])


def test_freezing_and_rates_go_together() -> None:
    moves, _ = train(edited("discriminative_lr", edited("freeze_shallow", pretrained()), divisor=2.0))
    assert moves.moved == [{"layer2", "layer3", "fc"}] * EPOCHS
    assert moves.rates[0] == pytest.approx([0.1, 0.05, 0.025])


def test_layers_may_be_named() -> None:
    recipe = Recipe(edited("discriminative_lr", layers=[["conv1"], ["layer1", "layer2"]]))
    named = [["network.conv1"], ["network.layer1", "network.layer2"]]
    assert recipe.get("model.parameter_groups.lr_layers") == named


@pytest.mark.parametrize("fraction", [0, 1])
def test_a_fraction_that_is_none_of_the_run_or_all_of_it_is_refused(fraction: float) -> None:
    with pytest.raises(RecipeError, match=f"until_fraction is {fraction}; it is a part of the run, between 0 and 1"):
        edited("freeze_backbone_then_unfreeze", until_fraction=fraction)


def test_rates_that_do_not_fall_and_unknown_networks_are_refused() -> None:
    with pytest.raises(RecipeError, match="divisor is 1; lower layers have lower rates if it is above 1"):
        edited("discriminative_lr", divisor=1)
    recipe = Recipe(digits_recipe())
    recipe.swap("model.network", "torchvision.models.ResNet")
    with pytest.raises(RecipeError, match=r"is a torchvision.models.ResNet, .* Give them as `layers`"):
        edited("discriminative_lr", recipe.config)

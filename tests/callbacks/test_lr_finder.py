import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts, ExponentialLR, LambdaLR, LinearLR, OneCycleLR

from callbacks import LinearWarmup, LRFinder, LRSearch, suggest_lr
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import OneWeight, fit, make_trainer

STEPS = 12
CURVE_RATES = np.geomspace(1e-5, 10, 100)


def each_step(make: Callable[[Optimizer], Any]) -> Callable[[Optimizer], Any]:
    return lambda optimizer: {"scheduler": make(optimizer), "interval": "step"}


SCHEDULES = {
    "none": None,
    "lambda": each_step(lambda optimizer: LambdaLR(optimizer, lambda step: 1 / (1 + step))),
    "one cycle": each_step(lambda optimizer: OneCycleLR(optimizer, max_lr=3.0, total_steps=16)),
    "warm restarts": each_step(lambda optimizer: CosineAnnealingWarmRestarts(optimizer, 3)),
    "linear": each_step(lambda optimizer: LinearLR(optimizer, total_iters=10)),
    "by epoch": lambda optimizer: ExponentialLR(optimizer, 0.7),
}


def geometric(first: float, last: float, steps: int) -> list[float]:
    return [float(rate) for rate in np.geomspace(first, last, steps)]


class TellLoss(OneWeight):
    """Its losses are given, one a batch, whatever the weight."""

    def __init__(self, losses: list[float], **arguments: Any) -> None:
        super().__init__(**arguments)
        self.losses = losses
        self.validations = 0
        self.ends = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.losses[self.trainer.current_epoch * self.batches + batch_idx] + 0 * self.weight

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validations += 1

    def on_train_epoch_end(self) -> None:
        self.ends += 1


class Quadratic(OneWeight):
    """Half the curvature times the squared weight, which begins at 1."""

    def __init__(self, curvature: float) -> None:
        super().__init__(batches=100)
        self.curvature = curvature
        nn.init.ones_(self.weight)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 0.5 * self.curvature * self.weight**2


class Groups(OneWeight):
    """Two groups, the second with a tenth of the rate."""

    def __init__(self, first: float = 1.0, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.first = first
        self.slow = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.weight - self.slow

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "lr": self.first}, {"params": [self.slow], "lr": 0.1}]


class RankLoss(OneWeight):
    """The loss is 1 in the first process and 3 in the second."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return 1.0 + 2.0 * self.global_rank + 0 * self.weight


def ideal_curve() -> np.ndarray:
    """Flat, falls most at a rate of 0.01, flat again, diverges from about 1 on."""
    decades = np.log10(CURVE_RATES)
    return 2.3 - 2 / (1 + np.exp(-3 * (decades + 2))) + np.exp(6 * (decades - 0.2))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
@pytest.mark.parametrize("warmup", [[], [LinearWarmup(epochs=1)]], ids=["plain", "warmed up"])
@pytest.mark.parametrize("place", [0, 1])
def test_the_rate_rises_geometrically_whatever_schedule_and_warm_up_say(
    schedule: Any, warmup: list[L.Callback], place: int
) -> None:
    module, finder = OneWeight(schedule), LRFinder(1e-3, 1.0, steps=STEPS)
    callbacks = list(warmup)
    callbacks.insert(place, finder)
    fit(module, *callbacks)
    assert module.first_rates == pytest.approx(geometric(1e-3, 1.0, STEPS))
    assert finder.rates == pytest.approx(module.first_rates)


def test_the_losses_are_those_before_each_step() -> None:
    module, finder = OneWeight(), LRFinder(1e-3, 1.0, steps=STEPS)
    fit(module, finder)
    weights = np.cumsum([0.0, *module.first_rates[:-1]])
    assert finder.losses == pytest.approx(-weights)


def test_the_fit_ends_after_the_steps_without_validation_or_the_end_of_the_epoch() -> None:
    module, finder = TellLoss([1.0] * 30, batches=15), LRFinder(steps=STEPS)
    trainer = fit(module, finder, min_epochs=2)
    assert (trainer.global_step, module.validations, module.ends) == (STEPS, 0, 0)
    assert trainer.state.finished and not trainer.interrupted


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_fit_and_is_left_out(last: float) -> None:
    module, finder = TellLoss([1.0, 2.0, last, 1.0] * 4), LRFinder(steps=STEPS)
    trainer = fit(module, finder)
    assert (trainer.global_step, finder.losses, module.ends) == (3, [1.0, 2.0], 0)


def test_accumulated_batches_are_one_step_with_their_mean_loss() -> None:
    module, finder = TellLoss([float(batch % 5) for batch in range(60)], batches=5), LRFinder(steps=STEPS)
    trainer = fit(module, finder, accumulate_grad_batches=2, max_epochs=8)
    assert trainer.global_step == STEPS
    assert finder.losses == pytest.approx([0.5, 2.5, 4.0] * 4)  # the last step of an epoch has one batch
    assert len(module.rates) == STEPS


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_batch_that_the_module_skips_has_no_loss() -> None:
    class Skips(TellLoss):
        def training_step(self, batch: Tensor, batch_idx: int) -> Tensor | None:  # type: ignore[override]
            return None if batch_idx == 1 else super().training_step(batch, batch_idx)

    finder = LRFinder(steps=10)
    fit(Skips([1.0, 9.0, 2.0, 3.0] * 4), finder)
    assert finder.losses[:6] == [1.0, 2.0, 3.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_f1_a_new_module_trains_with_the_rate_that_it_is_given(schedule: Any) -> None:
    def train() -> list[float]:
        module = OneWeight(schedule)
        fit(module)
        return module.first_rates

    alone = train()
    fit(OneWeight(schedule), LRFinder(1e-3, 1.0, steps=STEPS))
    assert train() == alone


@pytest.mark.parametrize("noise", [0.001, 0.01, 0.05])
def test_f2_noise_moves_the_suggestion_by_less_than_a_factor_of_two(noise: float) -> None:
    curve, best = ideal_curve(), suggest_lr(CURVE_RATES, ideal_curve())
    generator = np.random.default_rng(0)
    for _ in range(50):
        found = suggest_lr(CURVE_RATES, curve * (1 + noise * generator.standard_normal(len(curve))))
        assert best / 2 < found < best * 2


def test_f2_the_slope_is_that_over_the_logarithm_of_the_rate() -> None:
    assert suggest_lr(CURVE_RATES, ideal_curve()) == pytest.approx(0.01, rel=0.15)  # one point is a factor of 1.15


def test_f3_parameter_groups_keep_their_ratio() -> None:
    module = Groups()
    fit(module, LRFinder(1e-3, 1.0, steps=STEPS))
    expected = geometric(1e-3, 1.0, STEPS)
    assert [rates[0] for rates in module.rates] == pytest.approx(expected)
    assert [rates[1] for rates in module.rates] == pytest.approx([rate / 10 for rate in expected])


@pytest.mark.parametrize(("later", "ends"), [(4.9, False), (5.1, True)])
def test_f4_the_smoothed_loss_that_divergence_is_measured_by_has_no_bias(later: float, ends: bool) -> None:
    losses = [1.0] + [later] * 63
    module, finder = TellLoss(losses, batches=64), LRFinder(steps=64)
    fit(module, finder)
    smoothed = [
        sum(0.9 ** (step - past) * losses[past] for past in range(step + 1))
        / sum(0.9 ** (step - past) for past in range(step + 1))
        for step in range(64)
    ]
    above = [step for step in range(64) if smoothed[step] > 1 + 4.0]
    assert bool(above) == ends
    assert len(finder.losses) == (above[0] + 1 if ends else 64)


def test_f4_a_constant_loss_is_recorded_as_it_is() -> None:
    finder = LRFinder(steps=STEPS)
    fit(TellLoss([1.0] * 16), finder)
    assert finder.losses == [1.0] * STEPS


def test_f5_limits_of_the_trainer_stay() -> None:
    trainer = make_trainer(LRFinder(steps=STEPS), limit_val_batches=3)
    trainer.fit(OneWeight())
    assert (trainer.limit_val_batches, trainer.max_epochs) == (3, 4)


def test_f6_a_search_leaves_the_run_that_follows_it_as_it_would_have_been() -> None:
    def train() -> list[float]:
        L.seed_everything(0, verbose=False)
        module = Quadratic(1.0)
        fit(module, max_epochs=1)
        return [module.steps, *module.first_rates]

    alone = train()
    fit(Quadratic(1.0), LRFinder(steps=STEPS))
    assert train() == alone


def search_in_two_processes() -> tuple[list[float], list[float]]:
    finder = LRFinder(steps=STEPS)
    fit_distributed(RankLoss(), finder)
    return finder.rates, finder.losses


def test_f7_the_loss_is_the_mean_over_the_processes() -> None:
    rates = pytest.approx(geometric(1e-5, 10.0, STEPS))
    assert run_distributed(search_in_two_processes) == [(rates, [2.0] * STEPS)] * 2


def test_f7_manual_optimization_and_several_optimizers_are_refused() -> None:
    module = OneWeight()
    module.automatic_optimization = False
    with pytest.raises(ValueError, match="OneWeight optimizes manually, as modules with several optimizers do"):
        fit(module, LRFinder(steps=STEPS))


def test_f8_a_run_too_short_is_refused_before_its_first_step() -> None:
    module = OneWeight()
    with pytest.raises(ValueError, match="takes 17 optimizer steps, but the whole run has only 16"):
        fit(module, LRFinder(steps=17))
    assert module.rates == []


def test_a_sharded_module_is_refused() -> None:
    trainer = make_trainer()
    trainer.strategy.__class__ = type("Sharded", (FSDPStrategy, type(trainer.strategy)), {})
    with pytest.raises(ValueError, match="Sharded shards the module"):
        LRFinder().setup(trainer, OneWeight(), "fit")


def test_a_fit_from_a_checkpoint_is_refused(tmp_path: Path) -> None:
    trainer = fit(OneWeight())
    trainer.save_checkpoint(tmp_path / "trained.ckpt")
    with pytest.raises(ValueError, match=r"go on from .*trained\.ckpt"):
        fit(OneWeight(), LRFinder(steps=STEPS), ckpt_path=tmp_path / "trained.ckpt", max_epochs=20)


def test_a_first_group_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match=r"first parameter group has the rate 0\.0"):
        fit(Groups(first=0.0), LRFinder(steps=STEPS))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"min_lr": 0.0}, "min_lr must be positive and below max_lr, not 0.0 and 10.0"),
        ({"min_lr": 1.0, "max_lr": 0.1}, "not 1.0 and 0.1"),
        ({"max_lr": math.inf}, "not 1e-05 and inf"),
        ({"steps": 9}, "steps must be at least 10, not 9"),
        ({"divergence": 0.0}, "divergence must be positive, not 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LRFinder(**arguments)


def test_the_same_callback_can_search_again() -> None:
    finder = LRFinder(1e-3, 1.0, steps=STEPS)
    fit(OneWeight(), finder)
    first = finder.search
    fit(OneWeight(), finder)
    assert (list(first.rates), list(first.losses)) == (finder.rates, finder.losses)


@pytest.mark.parametrize("curvature", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("steps", [30, 100, 300])
def test_on_a_quadratic_the_suggestion_lies_below_the_largest_stable_rate(curvature: float, steps: int) -> None:
    weight, rates, losses = 1.0, geometric(1e-5, 100.0, steps), []
    for rate in rates:
        losses.append(0.5 * curvature * weight**2)
        weight -= rate * curvature * weight
        if losses[-1] > 10 * losses[0]:
            break
    assert 5 < 2 / curvature / suggest_lr(rates[: len(losses)], losses) < 100


def test_a_search_on_a_quadratic_ends_where_it_diverges_and_suggests_a_stable_rate() -> None:
    finder = LRFinder(1e-5, 100.0, steps=100)
    fit(Quadratic(curvature=10.0), finder)
    assert 0.2 < finder.rates[-1] < 2.0
    assert 5 < 0.2 / finder.suggestion < 100


def test_the_suggestion_does_not_depend_on_the_height_or_scale_of_the_loss() -> None:
    curve = ideal_curve()
    assert suggest_lr(CURVE_RATES, 7 * curve - 20) == suggest_lr(CURVE_RATES, curve)


@pytest.mark.parametrize("end", [math.nan, math.inf, -math.inf, 1e30])
def test_the_suggestion_does_not_depend_on_how_the_loss_diverges(end: float) -> None:
    curve = ideal_curve()
    curve[85:] = end
    assert suggest_lr(CURVE_RATES, curve) == suggest_lr(CURVE_RATES, ideal_curve())


def test_a_fall_after_the_lowest_point_does_not_count() -> None:
    curve = ideal_curve()
    curve[85:93] = 50.0
    curve[93:] = 1.0
    assert suggest_lr(CURVE_RATES, curve) == suggest_lr(CURVE_RATES, ideal_curve())


@pytest.mark.parametrize(
    "losses",
    [
        np.full(100, 2.3),
        np.linspace(1, 5, 100),
        2.3 + np.exp(6 * (np.log10(CURVE_RATES) - 0.2)),
        2.3 + 0.1 * np.random.default_rng(1).standard_normal(100),
    ],
    ids=["constant", "rising", "flat and divergent", "noise"],
)
def test_a_loss_that_never_falls_is_an_error(losses: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"does not fall anywhere from 1e-05 to 10: from .* it comes down by"):
        suggest_lr(CURVE_RATES, losses)


def test_a_curve_that_breaks_off_early_is_an_error() -> None:
    with pytest.raises(ValueError, match="only 9 losses are finite"):
        suggest_lr(CURVE_RATES[:30], [1.0] * 9 + [math.nan] + [1.0] * 20)


def test_a_search_can_be_written_as_json_and_rebuilt() -> None:
    finder = LRFinder(1e-5, 100.0, steps=100)
    fit(Quadratic(curvature=1.0), finder)
    read = json.loads(json.dumps(asdict(finder.search), allow_nan=False))
    assert LRSearch(tuple(read["rates"]), tuple(read["losses"]), read["suggestion"]) == finder.search
    assert finder.search.suggestion == finder.suggestion


@pytest.mark.parametrize("losses", [ideal_curve(), np.full(100, 2.3), np.array([1.0]), np.array([])])
def test_a_search_is_drawn_with_or_without_a_suggestion(losses: np.ndarray, tmp_path: Path) -> None:
    finder = LRFinder()
    finder.rates, finder.losses = list(CURVE_RATES[: len(losses)]), list(losses)
    finder.plot(tmp_path / "search.png")
    assert (tmp_path / "search.png").read_bytes().startswith(b"\x89PNG")


def test_the_drawing_marks_the_suggested_rate(tmp_path: Path) -> None:
    LRSearch(tuple(CURVE_RATES), tuple(ideal_curve()), 0.01).plot(tmp_path / "search.svg")
    assert "suggested: 0.01" in (tmp_path / "search.svg").read_text()

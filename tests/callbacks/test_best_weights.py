from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, OnExceptionCheckpoint
from torch import Tensor

from callbacks import EMA, BestWeights, EpochCheckpoint, ReseedEachEpoch
from tests.helpers.crashes import CrashInValidation, SaveAt
from tests.helpers.distributed import fit_distributed, run_distributed
from tests.helpers.one_weight import CrashError, fit, fit_until_crash, make_trainer
from tests.helpers.scored_weight import ScoredWeight, score
from tests.helpers.small_net import SmallNet, Trajectory, flatten

SCORES = [1.0, 3.0, 3.0, 2.0]
"""What the validations of the four epochs score: the second is the best, and the third equals it."""


class Judged(ScoredWeight):
    """Logs a given `val/score` in each epoch's validation."""

    def __init__(self, scores: list[float] = SCORES) -> None:
        super().__init__()
        self.scores = scores

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        super().validation_step(batch, batch_idx)
        self.log("val/score", torch.tensor(self.scores[self.trainer.current_epoch]))


def best_weight(best: BestWeights, module: Judged) -> float:
    return float(best.stored_weights(module)["best"]["weight"])


@pytest.mark.parametrize(
    ("scores", "mode", "epoch"),
    [
        (SCORES, "max", 1),
        (SCORES, "min", 0),
        ([torch.nan, 1.0, torch.nan, 0.0], "max", 1),
        ([torch.nan, 1.0, torch.nan, 0.0], "min", 3),
        ([-torch.inf, -torch.inf, 0.0, -1.0], "max", 2),
    ],
)
def test_the_weights_of_the_first_best_validation_are_kept(scores: list[float], mode: Any, epoch: int) -> None:
    module, best = Judged(scores), BestWeights("val/score", mode)
    fit(module, best, num_sanity_val_steps=1)
    assert best_weight(best, module) == 4 * (epoch + 1)
    assert (best.best_epoch, best.best_score) == (epoch, scores[epoch])


def test_the_run_goes_to_its_end_and_leaves_the_last_weights() -> None:
    module = Judged()
    fit(module, BestWeights("val/score"))
    assert module.weight == 16


def test_nothing_is_kept_of_scores_that_are_no_numbers() -> None:
    module, best = Judged([torch.nan] * 4), BestWeights("val/score")
    trainer = fit(module, best)
    assert best.stored_weights(module) == {}
    assert score(trainer, module) == 16


def test_the_trajectory_is_the_same_with_and_without() -> None:
    plain, observed = Trajectory(), Trajectory()
    fit(SmallNet(), ReseedEachEpoch(0), plain)
    fit(SmallNet(), ReseedEachEpoch(0), BestWeights("val/loss", "min"), observed)
    assert len(plain.states) == 16
    assert observed.states == plain.states


def test_the_stored_weights_are_the_whole_state_at_the_best_epoch(tmp_path: Path) -> None:
    module, best = SmallNet(), BestWeights("val/loss", "min")
    savers = [SaveAt(tmp_path / f"{epoch}.ckpt", "on_train_epoch_end", epoch) for epoch in range(4)]
    fit(module, ReseedEachEpoch(0), best, *savers)
    saved = torch.load(tmp_path / f"{best.best_epoch}.ckpt", weights_only=True)["state_dict"]
    stored = best.stored_weights(module)["best"]
    assert stored.keys() == saved.keys()
    assert flatten(stored) == flatten(saved)


@pytest.mark.parametrize("ema_first", [True, False])
def test_the_weights_kept_are_those_that_were_validated(ema_first: bool) -> None:
    module, best, ema = Judged(), BestWeights("val/score"), EMA(0.9)
    fit(module, *([ema, best] if ema_first else [best, ema]))
    assert best_weight(best, module) == pytest.approx(module.validated[1])
    assert 6 < module.validated[1] < 8


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, best, again = (SmallNet(), SmallNet(), *(BestWeights("val/loss", "min") for _ in range(2)))
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, seed, best)
    fit_until_crash(SmallNet(), seed, BestWeights("val/loss", "min"), checkpoint, epoch=epoch)
    fit(resumed, seed, again, ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert flatten(again.stored_weights(resumed)["best"]) == flatten(best.stored_weights(whole)["best"])
    assert again.best_score == best.best_score


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended")
@pytest.mark.parametrize(("epoch", "expected"), [(0, 4), (1, 4), (2, 4)])
def test_a_run_resumed_between_accumulated_batches_keeps_the_best(epoch: int, expected: float, tmp_path: Path) -> None:
    path = tmp_path / "middle.ckpt"
    module, best = Judged(), BestWeights("val/score")
    settings = {"accumulate_grad_batches": 2}
    fit(Judged(), BestWeights("val/score"), SaveAt(path, "on_train_batch_end", epoch, batch=0), **settings)
    fit(module, best, ckpt_path=path, **settings)
    assert module.weight == 8
    assert best_weight(best, module) == expected


@pytest.mark.filterwarnings("ignore:.*called without a model", "ignore:.*there is no last checkpoint available")
def test_a_run_resumed_from_an_exception_in_validation_keeps_the_best(tmp_path: Path) -> None:
    module, best = Judged(), BestWeights("val/score")
    with pytest.raises(CrashError):
        fit(Judged(), OnExceptionCheckpoint(tmp_path), CrashInValidation(epoch=2), BestWeights("val/score"))
    fit(module, best, ckpt_path=tmp_path / "on_exception.ckpt")
    assert module.weight == 16
    assert best_weight(best, module) == 8


def test_test_on_the_trainer_that_ran_fit_and_on_a_fresh_one_use_the_best_weights(tmp_path: Path) -> None:
    module, path = Judged(), tmp_path / "all.ckpt"
    trainer = fit(module, BestWeights("val/score"))
    trainer.save_checkpoint(path)
    assert score(trainer, module) == 8
    assert score(trainer, module, ckpt_path=path) == 8
    assert module.weight == 16
    assert score(make_trainer(BestWeights("val/score")), Judged(), ckpt_path=path) == 8


def test_a_second_fit_with_the_same_callback_starts_anew() -> None:
    module, best = Judged([0.0, 0.0, 0.0, 1.0]), BestWeights("val/score")
    fit(Judged(), best)
    fit(module, best)
    assert best_weight(best, module) == 16


@pytest.mark.parametrize("epoch", [1, 2])
def test_early_stopping_beside_it_ends_the_run_and_resumes(epoch: int, tmp_path: Path) -> None:
    def callbacks() -> list[Any]:
        return [BestWeights("val/score"), EarlyStopping("val/score", mode="max", patience=1)]

    checkpoint = EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    whole, resumed, again = Judged(), Judged(), callbacks()
    fit(whole, *callbacks())
    fit_until_crash(Judged(), *callbacks(), checkpoint, epoch=epoch)
    fit(resumed, *again, ckpt_path=checkpoint.path)
    assert whole.weight == resumed.weight == 12
    assert best_weight(again[0], resumed) == 8


def test_a_metric_that_is_not_logged_is_refused_at_the_first_validation_and_those_logged_are_named() -> None:
    module = Judged()
    message = "no validation logged 'val/accuracy'. Logged so far: 'val/score', 'val/weight'. Set monitor to one"
    with pytest.raises(ValueError, match=message):
        fit(module, BestWeights())
    assert module.weight == 4


@pytest.mark.parametrize("settings", [{"limit_val_batches": 0}, {"check_val_every_n_epoch": 5}])
def test_a_run_without_validation_is_refused(settings: dict[str, Any]) -> None:
    module = Judged()
    with pytest.raises(ValueError, match="the run has no validation, so 'val/score' is never known"):
        fit(module, BestWeights("val/score"), **settings)
    assert module.weight == 0


def test_a_mode_that_is_neither_is_refused() -> None:
    with pytest.raises(ValueError, match="mode must be 'min' or 'max', not 'best'"):
        BestWeights("val/score", "best")  # type: ignore[arg-type]


class JudgedApart(Judged):
    """The processes score differently; their mean is best after the third epoch."""

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        scores = [[9.0, 0.0, 8.0, 0.0], [0.0, 9.0, 8.0, 0.0]][self.global_rank]
        self.log("val/score", torch.tensor(scores[self.trainer.current_epoch]))


def fit_two_processes() -> tuple[float, float]:
    module, best = JudgedApart(), BestWeights("val/score")
    fit_distributed(module, best)
    return best_weight(best, module), float(best.best_score or 0)


def fit_net_two_processes() -> tuple[list[float], float | None]:
    module, best = SmallNet(), BestWeights("val/loss", "min")
    fit_distributed(module, best)
    return flatten(best.stored_weights(module)["best"]), best.best_score


def test_two_processes_agree_on_the_mean_of_their_scores() -> None:
    assert run_distributed(fit_two_processes) == [(12, 8)] * 2


def test_two_processes_keep_the_same_weights() -> None:
    first, second = run_distributed(fit_net_two_processes)
    assert first == second

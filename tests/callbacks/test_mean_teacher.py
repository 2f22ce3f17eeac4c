import copy
import math
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from callbacks import EpochCheckpoint, MeanTeacher, MultiScale, ReseedEachEpoch
from callbacks.mean_teacher import ramp_up
from datamodules import Digits
from tests.callbacks.sized_net import SizedNet
from tests.callbacks.unlabeled_points import UnlabeledPoints
from tests.helpers.crashes import CrashInValidation
from tests.helpers.distributed import run_distributed
from tests.helpers.one_weight import Crash, CrashError, fit
from tests.helpers.scored_weight import ScoredWeight, score
from tests.helpers.small_net import SmallNet, flatten


class ScoringWeight(ScoredWeight):
    """Scores one class, of which it is sure: the consistency is 0, and the weight the number of steps."""

    def forward(self, images: Tensor) -> Tensor:
        return self.weight.expand(len(images), 1)


class SteadyNet(SmallNet):
    """Has batch norm but no dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.network[3].p = 0.0
        self.batches: list[tuple[Tensor, Tensor]] = []  # of training

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batches.append(tuple(batch))
        return super().training_step(batch, batch_idx)


def closed_form(steps: int, decay: float) -> float:
    average = 0.0
    for step in range(steps):
        weight = min(decay, (1 + step) / (10 + step))
        average = weight * average + (1 - weight) * (step + 1)
    return average


def stored(callback: MeanTeacher, module: L.LightningModule) -> dict[str, Tensor]:
    return callback.stored_weights(module)["teacher"]


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("decay", [0.999, 0.3])
def test_the_teacher_has_its_closed_form(decay: float, accumulated: int) -> None:
    module, callback = ScoringWeight(), MeanTeacher(decay)
    trainer = fit(module, callback, accumulate_grad_batches=accumulated)
    steps = 16 // accumulated
    assert module.weight == steps
    assert float(stored(callback, module)["weight"]) == pytest.approx(closed_form(steps, decay), rel=1e-6)
    assert score(trainer, module) == pytest.approx(closed_form(steps, decay), rel=1e-6)


def train_naively(
    batches: list[tuple[Tensor, Tensor]], views: list[Tensor], weight: float, length: float
) -> tuple[SteadyNet, dict[str, Tensor]]:
    """Train with the consistency in a plain loop over two epochs; a whole copy of the module is the teacher."""
    module = SteadyNet().train()
    average = copy.deepcopy(module)
    configured = module.configure_optimizers()
    optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    for step, (points, labels) in enumerate(batches):
        loss = F.cross_entropy(module(points), labels)
        student = module(views[2 * step]).softmax(1)
        with torch.no_grad():
            teacher = copy.deepcopy(average)(views[2 * step + 1]).softmax(1)
        t = min(1.0, step / 4 / length)
        difference = ((student - teacher) ** 2).sum() / 8  # 4 images of 2 classes
        optimizer.zero_grad()
        (loss + weight * math.exp(-5 * (1 - t) ** 2) * difference).backward()
        optimizer.step()
        schedule.step()
        decay = min(0.9, (1 + step) / (10 + step))
        new, state = module.state_dict(), average.state_dict()
        mixed = {name: decay * state[name] + (1 - decay) * new[name] for name in state if new[name].is_floating_point()}
        average.load_state_dict({**new, **mixed, "mask": new["mask"]})
    return module, average.state_dict()


def test_training_equals_a_plain_loop_with_a_copy_of_the_module_as_teacher() -> None:
    data, module, callback = UnlabeledPoints(), SteadyNet(), MeanTeacher(0.9, 10.0, ramp_up_epochs=1.5, noise_sd=0.0)
    fit(module, callback, datamodule=data, max_epochs=2)
    assert len(data.transformed) == 2 * len(module.batches) == 16
    expected, teacher = train_naively(module.batches, data.transformed, 10.0, 1.5)
    torch.testing.assert_close(module.state_dict(), expected.state_dict())
    torch.testing.assert_close(stored(callback, module), teacher)
    alone = SteadyNet()
    fit(alone, max_epochs=2)
    assert not torch.allclose(alone.network[0].weight, module.network[0].weight, atol=1e-3)


def test_the_same_unlabeled_images_are_transformed_twice_and_each_pass_has_all_of_them() -> None:
    data = UnlabeledPoints(count=8)
    fit(SmallNet(), MeanTeacher(), datamodule=data, max_epochs=2)
    first, second = data.transformed[::2], data.transformed[1::2]
    seen = [data.find(view) for view in first]
    assert seen == [data.find(view) for view in second]
    assert not any(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    passes = [tuple(seen[batch] + seen[batch + 1]) for batch in range(0, 8, 2)]
    assert all(sorted(found) == list(range(8)) for found in passes)
    assert len(set(passes)) == 4  # every pass of every epoch has an order of its own


def test_without_unlabeled_images_the_labeled_ones_are_taken_with_noise_of_their_own() -> None:
    class Recording(SmallNet):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Tensor] = []

        def forward(self, points: Tensor) -> Tensor:
            self.seen.append(points)
            return super().forward(points)

    module = Recording()
    fit(module, MeanTeacher(noise_sd=0.1), max_epochs=1, limit_val_batches=0)
    for labeled, student, teacher in zip(module.seen[::3], module.seen[1::3], module.seen[2::3], strict=True):
        assert not torch.equal(student, teacher)
        assert 0 < (student - labeled).std() < 0.3
        assert 0 < (teacher - labeled).std() < 0.3


def test_a_loader_without_a_batch_counts_as_none() -> None:
    data = UnlabeledPoints(count=3)
    module, callback = SmallNet(), MeanTeacher()
    fit(module, callback, datamodule=data, max_epochs=1)
    assert data.transformed == []
    assert stored(callback, module).keys() == module.state_dict().keys()


def test_the_teacher_s_prediction_changes_neither_module_nor_teacher() -> None:
    module, callback = SmallNet(), MeanTeacher()
    fit(module, callback)
    module.train()
    before, teacher = flatten(module.state_dict()), flatten(stored(callback, module))
    prediction = callback.predict(module, module.points)
    assert torch.allclose(prediction.sum(1), torch.ones(len(module.points)))
    assert not prediction.requires_grad
    assert flatten(module.state_dict()) == before
    assert flatten(stored(callback, module)) == teacher


def test_labeled_batches_are_the_same_in_the_same_order() -> None:
    class Batches(L.Callback):
        def __init__(self) -> None:
            self.seen: list[Tensor] = []

        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, _: int) -> None:
            self.seen.append(batch[0])

    class DigitNet(SmallNet):
        def __init__(self) -> None:
            super().__init__()
            self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))

    plain, watched = Batches(), Batches()
    for callbacks in ([plain], [MeanTeacher(), watched]):
        torch.manual_seed(3)
        fit(DigitNet(), ReseedEachEpoch(3), *callbacks, datamodule=Digits(batch_size=25), max_epochs=2)
    assert len(plain.seen) == 8
    assert all(torch.equal(one, other) for one, other in zip(plain.seen, watched.seen, strict=True))


@pytest.mark.parametrize("progress", [0.0, 0.3, 2.0, 4.999, 5.0, 80.0])
def test_the_weight_rises_as_published(progress: float) -> None:
    t = min(1.0, progress / 5)
    assert ramp_up(progress, 5) == pytest.approx(math.exp(-5 * (1 - t) ** 2))


def test_without_a_ramp_the_weight_is_whole_from_the_start() -> None:
    assert ramp_up(0.0, 0.0) == 1


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_resumed_run_equals_the_uninterrupted_one(epoch: int, tmp_path: Path) -> None:
    whole, resumed, callback, again = SmallNet(), SmallNet(), MeanTeacher(), MeanTeacher()
    seed, checkpoint = ReseedEachEpoch(0), EpochCheckpoint(tmp_path / "last.ckpt", min_seconds=0)
    fit(whole, callback, seed, datamodule=UnlabeledPoints())
    with pytest.raises(CrashError):
        fit(SmallNet(), MeanTeacher(), seed, checkpoint, Crash(epoch), datamodule=UnlabeledPoints())
    fit(resumed, again, seed, datamodule=UnlabeledPoints(), ckpt_path=checkpoint.path)
    assert flatten(resumed.state_dict()) == flatten(whole.state_dict())
    assert flatten(stored(again, resumed)) == flatten(stored(callback, whole))


def test_an_exception_in_validation_leaves_the_trained_weights_and_the_step() -> None:
    module = ScoringWeight()
    with pytest.raises(CrashError):
        fit(module, CrashInValidation(epoch=1), MeanTeacher(validate_with_teacher=True))
    assert module.weight == 8
    assert "training_step" not in vars(module)


def test_validation_sees_the_teacher_if_asked() -> None:
    module = ScoringWeight()
    fit(module, MeanTeacher(0.9, validate_with_teacher=True))
    assert module.validated == pytest.approx([closed_form(steps, 0.9) for steps in (4, 8, 12, 16)], rel=1e-6)


def test_autocast_does_not_cut_the_graph() -> None:
    single, mixed = SteadyNet(), SteadyNet()
    for module, precision in ((single, "32-true"), (mixed, "bf16-mixed")):
        fit(module, ReseedEachEpoch(0), MeanTeacher(), datamodule=UnlabeledPoints(), max_steps=1, precision=precision)
    torch.testing.assert_close(mixed.state_dict(), single.state_dict(), atol=0.02, rtol=0.02)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_module_whose_step_returns_a_dict_or_skips_a_batch_is_trained() -> None:
    class Choosy(ScoringWeight):
        def training_step(self, batch: Tensor, batch_idx: int) -> Any:
            return None if batch_idx == 1 else {"loss": super().training_step(batch, batch_idx), "more": 1}

    module = Choosy()
    fit(module, MeanTeacher())
    assert module.weight == 12


def test_it_goes_with_training_images_of_other_sizes() -> None:
    class Net(SizedNet):
        def forward(self, images: Tensor) -> Tensor:
            return self.network(images)

    module, sizes = Net(), MultiScale([4, 8, 16], divisor=4, every_n_batches=1, seed=1)
    fit(module, MeanTeacher(), sizes, max_epochs=2)
    assert module.widths == [sizes.draw(epoch, batch) for epoch in range(2) for batch in range(4)]


def test_the_outputs_of_the_module_say_what_its_scores_mean() -> None:
    class Outputs:
        def probabilities(self, scores: Tensor) -> Tensor:
            return scores.sigmoid()

    module, callback = SmallNet(), MeanTeacher()
    fit(module, callback)
    module.eval().load_state_dict(stored(callback, module))
    module.outputs = Outputs()
    torch.testing.assert_close(callback.predict(module, module.points), module(module.points).detach().sigmoid())


def test_the_consistency_is_logged() -> None:
    trainer = fit(SmallNet(), MeanTeacher(), datamodule=UnlabeledPoints())
    assert 0 < trainer.callback_metrics["train/consistency"] < 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"decay": 1.0}, "decay must be between 0 and 1, not 1.0"),
        ({"weight": 0.0, "ramp_up_epochs": -1.0}, "weight must be positive, not 0.0; ramp_up_epochs must be at least"),
        ({"noise_sd": -0.1}, "noise_sd must be at least 0, not -0.1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"MeanTeacher: {message}"):
        MeanTeacher(**arguments)


def fit_two_processes() -> tuple[list[float], list[float], list[int]]:
    data, module, callback = UnlabeledPoints(count=16), SmallNet(), MeanTeacher()
    fit(module, ReseedEachEpoch(0), callback, datamodule=data, strategy="ddp", devices=2, max_epochs=1)
    seen = [point for view in data.transformed[:4:2] for point in data.find(view)]  # of a pass
    return flatten(stored(callback, module)), flatten(dict(module.named_parameters())), seen


def test_two_processes_agree_on_weights_and_teacher_and_share_the_unlabeled_images() -> None:
    (first, weights, seen), (second, other_weights, other_seen) = run_distributed(fit_two_processes)
    assert first == second
    assert weights == other_weights
    assert sorted(seen + other_seen) == list(range(16))

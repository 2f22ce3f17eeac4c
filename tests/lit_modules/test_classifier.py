"""LitClassifier against naive loops over the same data."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback, ModelCheckpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils._python_dispatch import TorchDispatchMode

from lit_modules import DivergedError, LitClassifier, ParameterGroups
from lit_modules.inference import CornerCropViews, HorizontalFlipViews, Inference, Views
from lit_modules.losses import (
    OHEM,
    AMSoftmax,
    ArcFace,
    BinaryCrossEntropy,
    FBetaLoss,
    FocalLoss,
    LargeMarginSoftmax,
    LovaszHinge,
    SquaredError,
)
from lit_modules.outputs import SigmoidOutputs

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

Make = Callable[..., Any]
FROZEN_SGD = partial(torch.optim.SGD, lr=0.0)


class Recorder(L.Callback):
    """Records the learning rate of every optimizer step, and the training loss of every epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_before_optimizer_step(self, trainer: L.Trainer, module: L.LightningModule, optimizer: Any) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.on_train_end(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if "train/loss" in trainer.callback_metrics:
            self.losses.append(trainer.callback_metrics["train/loss"].item())


# --- what is logged -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft_targets", [False, True])
def test_losses_and_accuracies_are_means_over_samples_though_the_last_batch_is_smaller(
    soft_targets: bool, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, module = make_data(soft_targets), make_module(optimizer=FROZEN_SGD)
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    logged = dict(trainer.callback_metrics)
    logged |= trainer.test(module, datamodule=data, verbose=False)[0]

    with torch.no_grad():
        scores = module(data.images)
    loss = nn.functional.cross_entropy(scores, data.targets).item()
    labels = data.targets.argmax(1) if soft_targets else data.targets
    accuracy = (scores.argmax(1) == labels).sum().item() / len(labels)
    assert set(logged) == {"train/loss", "val/loss", "val/accuracy", "test/loss", "test/accuracy"}
    for name, value in logged.items():
        assert float(value) == pytest.approx(accuracy if name.endswith("accuracy") else loss, rel=1e-6), name


SIGMOIDS = {"outputs": SigmoidOutputs()}
TRAINED_BY = {
    "label smoothing": {"loss": nn.CrossEntropyLoss(label_smoothing=0.3)},
    "class weights": {"loss": nn.CrossEntropyLoss(weight=torch.tensor([5.0, 1.0, 0.2]))},
    "focal": {"loss": FocalLoss(label_smoothing=0.1)},
    "hard samples": {"loss": OHEM(nn.CrossEntropyLoss(reduction="none"))},
    "hinge": {"loss": nn.MultiMarginLoss()},
    "squared error": {"loss": SquaredError()},
    "binary": {"loss": BinaryCrossEntropy(), **SIGMOIDS},
    "F-beta": {"loss": FBetaLoss(), **SIGMOIDS},
    "Lovasz": {"loss": LovaszHinge(), **SIGMOIDS},
    "ArcFace": {"head": ArcFace},
    "AM-Softmax": {"head": partial(AMSoftmax, scale=4.0), "loss": FocalLoss()},
    "large margin": {"head": LargeMarginSoftmax},
}


@pytest.mark.parametrize("how", TRAINED_BY.values(), ids=TRAINED_BY)
def test_losses_of_validation_and_test_are_those_of_the_labels_whatever_trains(
    how: dict[str, Any], make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, module, trainer = make_data(), make_module(**how), make_trainer(max_epochs=2)
    trainer.fit(module, datamodule=data)
    logged = dict(trainer.callback_metrics)
    logged |= trainer.test(module, datamodule=data, verbose=False)[0]
    with torch.no_grad():
        scores = module.network(data.images).tolist()
    naive = 0.0
    for of_image, label in zip(scores, data.targets.tolist(), strict=True):
        naive -= math.log(math.exp(of_image[label]) / sum(map(math.exp, of_image))) / len(scores)
    assert float(logged["val/loss"]) == pytest.approx(naive, rel=1e-5)
    assert logged["test/loss"] == pytest.approx(naive, rel=1e-5)


@pytest.mark.parametrize("run", ["validate", "test"])
def test_a_run_that_was_broken_off_leaves_nothing_behind(
    run: str, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    class Crash(L.Callback):
        def on_test_batch_end(self, *_: Any) -> None:
            raise KeyError("crash")

        on_validation_batch_end = on_test_batch_end

    data, module = make_data(), make_module()
    undisturbed = getattr(make_trainer(), run)(module, datamodule=data, verbose=False)
    with pytest.raises(KeyError, match="crash"):
        getattr(make_trainer(callbacks=[Crash()]), run)(module, datamodule=data, verbose=False)
    assert getattr(make_trainer(), run)(module, datamodule=data, verbose=False) == undisturbed


def test_each_epoch_has_its_own_training_loss(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    data, module, recorder = make_data(), make_module(), Recorder()
    make_trainer(max_epochs=3, callbacks=[recorder]).fit(module, datamodule=data)

    network = make_module().network
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    naive = []
    for _ in range(3):
        total = 0.0
        for images, targets in zip(data.images.split(4), data.targets.split(4), strict=True):
            loss = nn.functional.cross_entropy(network(images), targets)
            total += loss.item() * len(images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        naive.append(total / len(data.images))
    assert recorder.losses == pytest.approx(naive, rel=1e-5)


def test_a_callback_can_monitor_the_training_loss(
    make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    checkpoint = ModelCheckpoint(tmp_path, monitor="train/loss", save_on_train_epoch_end=True)
    trainer = make_trainer(callbacks=[checkpoint], enable_checkpointing=True)
    trainer.fit(make_module(), datamodule=make_data())
    assert checkpoint.best_model_score == trainer.callback_metrics["train/loss"]


def test_a_training_step_never_reads_a_value_from_the_device(make_module: Make, make_data: Make) -> None:
    reads = []
    waiting = ("_local_scalar_dense", "unique", "nonzero", "masked_select")  # a value, or a shape that depends on one

    class CountReads(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if any(name in str(func) for name in waiting):
                reads.append(func)
            return func(*args, **(kwargs or {}))

    data, module = make_data(), make_module()
    with CountReads():
        module.training_step((data.images, data.targets), 0).backward()
        module.validation_step((data.images, data.targets), 0)
        assert reads == []
        module.train_loss.compute().item()
    assert len(reads) == 1


def test_the_state_dict_holds_the_network_and_the_loss_only(make_module: Make) -> None:
    module = make_module(loss=nn.CrossEntropyLoss(weight=torch.ones(3)), compile=True)
    assert list(module.state_dict()) == [
        "network.0.weight",
        "network.0.bias",
        "network.3.weight",
        "network.3.bias",
        "loss.weight",
    ]


# --- optimizer and schedule -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("accumulate", "steps_per_epoch"), [(1, 3), (2, 2)])
def test_the_schedule_spans_the_run_in_optimizer_steps(
    accumulate: int, steps_per_epoch: int, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    recorder = Recorder()
    trainer = make_trainer(max_epochs=4, accumulate_grad_batches=accumulate, callbacks=[recorder])
    trainer.fit(make_module(schedule=CosineAnnealingLR), datamodule=make_data())

    steps = 4 * steps_per_epoch
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule, naive = CosineAnnealingLR(optimizer, steps), []
    for _ in range(steps):
        naive.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert recorder.rates == pytest.approx(naive)


def test_max_steps_ends_the_schedule(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    spans = []

    def make_schedule(optimizer: torch.optim.Optimizer, total_steps: int) -> CosineAnnealingLR:
        spans.append(total_steps)
        return CosineAnnealingLR(optimizer, total_steps)

    make_trainer(max_epochs=9, max_steps=5).fit(make_module(schedule=make_schedule), datamodule=make_data())
    assert spans == [5]


def test_without_a_schedule_the_rate_is_constant(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    recorder = Recorder()
    make_trainer(max_epochs=2, callbacks=[recorder]).fit(make_module(), datamodule=make_data())
    assert recorder.rates == [0.1] * 6


def test_a_schedule_without_an_end_is_refused(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    with pytest.raises(ValueError, match=r"the trainer says inf\. Set max_epochs"):
        make_trainer(max_epochs=-1).fit(make_module(schedule=CosineAnnealingLR), datamodule=make_data())


def test_parameters_of_network_and_loss_go_through_the_parameter_groups(make_module: Make) -> None:
    class LearnedTemperature(nn.CrossEntropyLoss):
        def __init__(self) -> None:
            super().__init__()
            self.temperature = nn.Parameter(torch.ones(()))

    module = make_module(
        loss=LearnedTemperature(),
        optimizer=partial(torch.optim.SGD, lr=0.1, weight_decay=0.5),
        parameter_groups=ParameterGroups(bias_decay=False),
    )
    groups = module.configure_optimizers().param_groups
    assert [(len(group["params"]), group["weight_decay"]) for group in groups] == [(2, 0.5), (3, 0.0)]
    assert any(parameter is module.loss.temperature for parameter in groups[1]["params"])


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_training_that_diverges_raises_at_the_end_of_that_epoch(
    value: str, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    class DivergesInTheSecondEpoch(nn.CrossEntropyLoss):
        calls = 0

        def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(scores, targets) + (float(value) if self.calls == 4 else 0.0)

    module = make_module(loss=DivergesInTheSecondEpoch())
    with pytest.raises(DivergedError, match=f"epoch 1 .counted from 0. is {value}") as caught:
        make_trainer(max_epochs=3, limit_val_batches=0).fit(module, datamodule=make_data())
    assert caught.value.epoch == 1
    assert module.loss.calls == 6  # all of the second epoch, and nothing of the third


@pytest.mark.parametrize("run", ["fit", "test"])
def test_a_network_of_the_wrong_width_is_refused(
    run: str, make_module: Make, make_network: Make, make_data: Make, make_trainer: Make
) -> None:
    module = make_module(network=make_network(5))
    with pytest.raises(ValueError, match="the network has 5 outputs, but the datamodule has 3 classes"):
        getattr(make_trainer(), run)(module, datamodule=make_data())


def test_dataloaders_without_a_datamodule_do(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    trainer = make_trainer()
    trainer.fit(make_module(), make_data().train_dataloader(), make_data().val_dataloader())
    assert trainer.global_step == 3


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(
    ("hook", "save_on_train_epoch_end"), [("on_train_epoch_end", False), ("on_train_epoch_start", True)]
)
def test_a_crash_around_the_end_of_an_epoch_changes_no_loss(
    hook: str, save_on_train_epoch_end: bool, make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    def crash(trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise KeyError("crash")

    def make_checkpointing_trainer(callback: L.Callback) -> L.Trainer:
        checkpoint = ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=save_on_train_epoch_end)
        return make_trainer(max_epochs=3, callbacks=[callback, checkpoint], enable_checkpointing=True)

    straight, resumed = Recorder(), Recorder()
    make_trainer(max_epochs=3, callbacks=[straight]).fit(make_module(), datamodule=make_data())
    with pytest.raises(KeyError, match="crash"):
        make_checkpointing_trainer(LambdaCallback(**{hook: crash})).fit(make_module(), datamodule=make_data())
    trainer = make_checkpointing_trainer(resumed)
    trainer.fit(make_module(), datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert len(straight.losses) == 3
    assert resumed.losses == straight.losses[1:]


def test_an_epoch_without_a_batch_is_no_divergence(make_module: Make) -> None:
    module = make_module()
    module.on_train_epoch_end()
    assert not module.train_loss.update_called


def test_a_resumed_epoch_averages_over_all_of_its_batches(make_module: Make, make_data: Make) -> None:
    data, module = make_data(), make_module()
    for batch, images in enumerate(data.images.split(4)):
        if batch == 2:
            checkpoint: dict[str, Any] = {}
            module.on_save_checkpoint(checkpoint)
            module = make_module()
            module.on_load_checkpoint(checkpoint)
        module.training_step((images, data.targets.split(4)[batch]), batch)
    expected = nn.functional.cross_entropy(module(data.images), data.targets)
    torch.testing.assert_close(module.train_loss.compute(), expected.detach())


# --- inference ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("views", [HorizontalFlipViews(), CornerCropViews(2)])
def test_test_and_predict_average_the_probabilities_of_the_views(
    views: Views, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, module, trainer = make_data(), make_module(), make_trainer()
    module.inference = Inference(views=views)
    scores = trainer.test(module, datamodule=data, verbose=False)[0]
    predicted = torch.cat(trainer.predict(module, datamodule=data))

    with torch.no_grad():
        naive = sum(module.network(view).softmax(1) for view in views(data.images)) / len(views(data.images))
    torch.testing.assert_close(module.predictions["probabilities"], naive)
    torch.testing.assert_close(predicted, naive)
    assert scores["test/loss"] == pytest.approx(nn.functional.nll_loss(naive.log(), data.targets).item(), rel=1e-5)
    assert scores["test/accuracy"] == pytest.approx((naive.argmax(1) == data.targets).float().mean().item())


def test_predictions_are_on_the_cpu_in_the_order_of_the_data_and_of_the_last_test_only(
    make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, module = make_data(), make_module()
    for _ in range(2):
        make_trainer().test(module, datamodule=data, verbose=False)
    probabilities, targets = module.predictions["probabilities"], module.predictions["targets"]
    assert torch.equal(targets, data.targets)
    assert (probabilities.dtype, probabilities.device.type) == (torch.float32, "cpu")
    with torch.no_grad():
        torch.testing.assert_close(probabilities, module(data.images).softmax(1))


def test_views_do_not_touch_validation(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    class NoViews(Views):
        def forward(self, images: Tensor) -> list[Tensor]:
            raise AssertionError("views were asked for")

    module = make_module()
    module.inference = Inference(views=NoViews())
    make_trainer().fit(module, datamodule=make_data())
    with pytest.raises(AssertionError, match="views were asked for"):
        make_trainer().test(module, datamodule=make_data(), verbose=False)


def test_the_loss_that_trains_scores_nothing(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    class NoLoss(nn.Module):
        def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
            raise AssertionError("the loss was asked for")

    module = make_module(loss=NoLoss())
    make_trainer().validate(module, datamodule=make_data(), verbose=False)
    make_trainer().test(module, datamodule=make_data(), verbose=False)
    with pytest.raises(AssertionError, match="the loss was asked for"):
        make_trainer().fit(module, datamodule=make_data())


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")
def test_predictions_of_two_processes_are_those_of_one(
    make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    class Save(L.Callback):
        def on_test_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            torch.save([module.predictions, dict(trainer.callback_metrics)], tmp_path / f"{trainer.global_rank}.pt")

    data, module = make_data(size=11), make_module()
    make_trainer().test(module, datamodule=data, verbose=False)
    alone = module.predictions
    trainer = make_trainer(devices=2, strategy="ddp_fork", callbacks=[Save()])
    trainer.test(module, datamodule=data, verbose=False)

    correct = (alone["probabilities"].argmax(1) == alone["targets"]).float()
    accuracy = torch.cat([correct, correct[:1]]).mean()  # the sampler repeats the first image, for two equal halves
    for rank in range(2):
        predictions, logged = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(predictions, alone)
        torch.testing.assert_close(logged["test/accuracy"], accuracy)


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")
def test_two_processes_without_a_distributed_sampler_are_refused(
    make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    trainer = make_trainer(devices=2, strategy="ddp_fork", use_distributed_sampler=False)
    with pytest.raises(Exception, match="sampler is SequentialSampler, and it must be a DistributedSampler"):
        trainer.test(make_module(), datamodule=make_data(), verbose=False)


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders")
def test_the_losses_of_two_processes_are_those_of_one(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    data, logged = make_data(size=12), []
    for changes in ({}, {"devices": 2, "strategy": "ddp_fork"}):
        trainer = make_trainer(**changes)
        trainer.fit(make_module(optimizer=FROZEN_SGD), datamodule=data)
        logged.append({name: value.item() for name, value in trainer.callback_metrics.items()})
    assert set(logged[0]) == {"train/loss", "val/loss", "val/accuracy"}
    assert logged[1] == pytest.approx(logged[0], rel=1e-6)


# --- speed ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [True, False])
def test_channels_last_reaches_weights_and_images(channels_last: bool, make_module: Make) -> None:
    class Spy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, images: Tensor) -> Tensor:
            self.format = images.is_contiguous(memory_format=torch.channels_last)
            return self.conv(images).flatten(1)

    module = make_module(network=Spy(), channels_last=channels_last)
    module(torch.randn(2, 3, 8, 8))
    assert module.network.format is channels_last
    assert module.network.conv.weight.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize("switch", [True, False])
def test_compile_compiles_the_network_once(switch: bool, make_module: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []

    def pretend_to_compile(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", pretend_to_compile)
    module = make_module(compile=switch)
    for _ in range(2):
        assert module(torch.randn(2, 1, 6, 6)).shape == (2, 3)
    assert len(compiled) == switch
    assert isinstance(module, LitClassifier)

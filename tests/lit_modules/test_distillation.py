"""Distillation against its formula, and a teacher that nothing of the training touches."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import save_file
from torch import Tensor, nn

from callbacks import EMA, CostMonitor
from lit_modules import Distillation
from lit_modules.distillation import distillation_loss
from lit_modules.losses import BinaryCrossEntropy
from lit_modules.outputs import SigmoidOutputs

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

Make = Callable[..., Any]


def make_teacher_network(num_classes: int = 3) -> nn.Module:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, num_classes)]
    return nn.Sequential(*layers)


def make_teacher() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        teacher = make_teacher_network()
        teacher(torch.randn(20, 1, 6, 6) * 3 + 1)  # gives the normalization statistics of its own
    return teacher.eval()


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """A file as a study stores it: the state of a module."""
    state = {f"network.{name}": value for name, value in make_teacher().state_dict().items()}
    save_file({**state, "loss.weight": torch.ones(3)}, tmp_path / "last.safetensors")
    return str(tmp_path / "last.safetensors")


class Spy(L.Callback):
    """Records the images of every batch as the module sees them, and the teacher's state at the end of training."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.teacher: dict[str, Tensor] = {}
        self.training: set[bool] = set()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches.append(batch)
        teacher = pl_module.distillation.teacher
        self.teacher = {name: value.clone() for name, value in teacher.state_dict().items()}
        self.training |= {part.training for part in teacher.modules()}


# --- the loss -------------------------------------------------------------------------------------------------------


def test_the_loss_is_that_of_the_formula() -> None:
    z, r, t = [1.0, -2.0, 0.5], [3.0, 1.0, -4.0], 20.0
    soften = [torch.tensor(scores, dtype=torch.float64).div(t).exp() for scores in (z, r)]
    student, teacher = (values / values.sum() for values in soften)
    naive = -(t**2) * sum(q * p.log() for p, q in zip(student, teacher, strict=True))
    assert distillation_loss(torch.tensor([z]), torch.tensor([r]), t).item() == pytest.approx(naive.item(), rel=1e-6)


def test_the_gradient_is_temperature_times_the_difference_of_the_softened_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, guidance = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    scores.requires_grad_()
    distillation_loss(scores, guidance, 20.0).backward()
    expected = 20.0 * ((scores.detach() / 20).softmax(1) - (guidance / 20).softmax(1)) / 5
    torch.testing.assert_close(scores.grad, expected)


# --- in training ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soft_targets", [False, True])
def test_the_teacher_s_part_is_added_in_training_and_not_in_evaluation(
    soft_targets: bool, weights: str, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, spy = make_data(soft_targets), Spy()
    distillation = Distillation(make_teacher_network, weights, temperature=5.0)
    module = make_module(distillation=distillation, optimizer=partial(torch.optim.SGD, lr=0.0))
    trainer = make_trainer(callbacks=[spy])
    trainer.fit(module, datamodule=data)
    with torch.no_grad():
        scores, guidance = module(data.images), make_teacher()(data.images)
    plain = nn.functional.cross_entropy(scores, data.targets)
    expected = plain + distillation_loss(scores, guidance, 5.0)
    torch.testing.assert_close(trainer.callback_metrics["train/loss"], expected)
    torch.testing.assert_close(trainer.callback_metrics["val/loss"], plain)


def test_the_teacher_sees_the_augmented_images(
    weights: str, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    class Noisy(type(make_data())):  # type: ignore[misc]
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            return batch[0] + torch.randn_like(batch[0]), batch[1]

    seen: list[Tensor] = []

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_teacher_network()

        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return self.inner(images)

        def load_state_dict(self, state: Any, *_: Any) -> Any:
            return self.inner.load_state_dict(state)

    spy = Spy()
    module = make_module(distillation=Distillation(Watched, weights))
    make_trainer(callbacks=[spy], limit_val_batches=0).fit(module, datamodule=Noisy())
    assert len(seen) == len(spy.batches) == 3
    assert all(torch.equal(images, batch[0]) for images, batch in zip(seen, spy.batches, strict=True))


def test_the_teacher_does_not_move_and_is_no_part_of_the_module(
    weights: str, make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    spy, costs, ema = Spy(), CostMonitor(), EMA(decay=0.5)
    module, plain = make_module(distillation=Distillation(make_teacher_network, weights)), make_module()
    checkpoint = ModelCheckpoint(tmp_path / "checkpoints", save_last=True)
    trainer = make_trainer(callbacks=[spy, costs, ema, checkpoint], enable_checkpointing=True, max_epochs=2)
    trainer.fit(module, datamodule=make_data())

    before = make_teacher().state_dict()
    assert spy.teacher.keys() == before.keys()
    assert all(torch.equal(spy.teacher[name], before[name]) for name in before)
    assert spy.training == {False}
    names = list(plain.state_dict())
    stored = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert list(module.state_dict()) == list(stored["state_dict"]) == list(ema.stored_weights(module)["ema"]) == names
    assert costs.summary()["parameters"] == sum(parameter.numel() for parameter in plain.parameters())
    assert sum(len(group["params"]) for group in trainer.optimizers[0].param_groups) == len(list(plain.parameters()))
    assert module.distillation.teacher is None  # its memory is free again


def test_a_resumed_training_ends_as_one_that_was_never_interrupted(
    weights: str, make_module: Make, make_data: Make, make_trainer: Make, tmp_path: Path
) -> None:
    def make() -> Any:
        return make_module(distillation=Distillation(make_teacher_network, weights))

    straight, resumed = make(), make()
    make_trainer(max_epochs=2).fit(straight, datamodule=make_data())
    trainer = make_trainer(max_epochs=1)
    trainer.fit(make(), datamodule=make_data())
    trainer.save_checkpoint(tmp_path / "epoch.ckpt")
    make_trainer(max_epochs=2).fit(
        resumed, datamodule=make_data(), ckpt_path=tmp_path / "epoch.ckpt", weights_only=True
    )
    assert all(torch.equal(value, resumed.state_dict()[name]) for name, value in straight.state_dict().items())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16-mixed", torch.float32), ("bf16-true", torch.bfloat16)])
def test_the_teacher_has_the_precision_of_the_run(
    precision: str, dtype: torch.dtype, weights: str, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    spy, outputs = Spy(), []

    class Watched(nn.Sequential):
        def forward(self, images: Tensor) -> Tensor:
            outputs.append(super().forward(images).dtype)
            return super().forward(images)

    module = make_module(distillation=Distillation(lambda: Watched(*make_teacher_network()), weights))
    make_trainer(precision=precision, callbacks=[spy], limit_val_batches=0).fit(module, datamodule=make_data())
    assert spy.teacher["0.weight"].dtype is dtype
    assert set(outputs) == {torch.bfloat16}


def test_building_the_teacher_does_not_move_the_random_generator(weights: str) -> None:
    state = torch.get_rng_state()
    distillation = Distillation(make_teacher_network, weights)
    distillation.load_teacher(torch.device("cpu"), lambda network: network)
    assert torch.equal(torch.get_rng_state(), state)


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "network."])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_are_read_in_either_form(prefix: str, suffix: str, tmp_path: Path) -> None:
    teacher, path = make_teacher(), tmp_path / f"teacher{suffix}"
    state = {prefix + name: value for name, value in teacher.state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    distillation = Distillation(make_teacher_network, str(path))
    distillation.load_teacher(torch.device("cpu"), lambda network: network)
    assert distillation.teacher is not None
    images = torch.randn(2, 1, 6, 6)
    torch.testing.assert_close(distillation.teacher(images), teacher(images))


def test_the_weights_file_decides_what_is_trained() -> None:
    assert Distillation.source_files({"teacher_weights": "weights/last.safetensors", "temperature": 20.0}) == [
        Path("weights/last.safetensors")
    ]


def test_evaluation_needs_no_file(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    module = make_module(distillation=Distillation(make_teacher_network, "nowhere.pt"))
    (metrics,) = make_trainer().test(module, datamodule=make_data(), verbose=False)
    assert set(metrics) == {"test/loss", "test/accuracy"}


# --- what is refused ------------------------------------------------------------------------------------------------


def test_a_missing_file_is_said_when_training_begins(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    module = make_module(distillation=Distillation(make_teacher_network, "nowhere.pt"))
    with pytest.raises(FileNotFoundError, match=r"there is no file nowhere\.pt with the teacher's weights"):
        make_trainer().fit(module, datamodule=make_data())


def test_weights_of_another_network_are_refused(weights: str) -> None:
    distillation = Distillation(lambda: make_teacher_network(5), weights)
    with pytest.raises(ValueError, match=r"last\.safetensors are not those of the teacher's network, Sequential: size"):
        distillation.load_teacher(torch.device("cpu"), lambda network: network)


def test_a_teacher_of_other_classes_is_refused(weights: str) -> None:
    distillation = Distillation(make_teacher_network, weights)
    distillation.load_teacher(torch.device("cpu"), lambda network: network)
    with pytest.raises(ValueError, match="the teacher has 3 outputs and the student 10"):
        distillation(torch.randn(2, 1, 6, 6), torch.randn(2, 10))


def test_a_teacher_must_have_been_loaded(weights: str) -> None:
    with pytest.raises(RuntimeError, match="there is no teacher; call load_teacher"):
        Distillation(make_teacher_network, weights)(torch.randn(2, 1, 6, 6), torch.randn(2, 3))


def test_a_temperature_that_is_not_above_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature is 0\.0"):
        Distillation(make_teacher_network, "teacher.pt", temperature=0.0)


def test_outputs_that_are_no_softmax_are_refused(weights: str, make_module: Make) -> None:
    with pytest.raises(ValueError, match="distillation is for the softmax of the scores, but outputs is SigmoidOut"):
        make_module(
            distillation=Distillation(make_teacher_network, weights),
            loss=BinaryCrossEntropy(),
            outputs=SigmoidOutputs(),
        )

"""LitClassifier with a head that has a margin, and with class weights that follow the training data."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from lit_modules.initialization import OrthogonalInitialization
from lit_modules.losses import OHEM, AMSoftmax, ArcFace, ClassWeightedCrossEntropy, FocalLoss

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

Make = Callable[..., Any]
FROZEN_SGD = partial(torch.optim.SGD, lr=0.0)


def test_training_has_the_margin_and_evaluation_has_none(
    make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    data, module = make_data(), make_module(head=partial(AMSoftmax, margin=0.3, scale=8.0), optimizer=FROZEN_SGD)
    trainer = make_trainer()
    trainer.fit(module, datamodule=data)
    with torch.no_grad():
        features = module.network[:3](data.images)
        cosines = nn.functional.normalize(features) @ nn.functional.normalize(module.network[3].weight).T
    lowered = cosines - 0.3 * nn.functional.one_hot(data.targets, 3)
    logged = trainer.callback_metrics
    expected = nn.functional.cross_entropy(8 * lowered, data.targets)
    torch.testing.assert_close(logged["train/loss"], expected)
    torch.testing.assert_close(logged["val/loss"], nn.functional.cross_entropy(8 * cosines, data.targets))
    trainer.test(module, datamodule=data, verbose=False)
    torch.testing.assert_close(module.predictions["probabilities"], (8 * cosines).softmax(1))


@pytest.mark.parametrize("loss", [FocalLoss(label_smoothing=0.1), OHEM(nn.CrossEntropyLoss(reduction="none"))])
def test_a_head_goes_with_any_loss(loss: nn.Module, make_module: Make, make_data: Make) -> None:
    data, module = make_data(), make_module(head=ArcFace, loss=loss)
    features = module.network[:3](data.images)
    expected = loss(module.network[3](features, data.targets), data.targets)
    torch.testing.assert_close(module.training_step((data.images, data.targets), 0), expected)


def test_initial_weights_are_those_of_the_head_that_is_trained(make_module: Make) -> None:
    weight = make_module(head=ArcFace, init=OrthogonalInitialization(gain=2.0)).network[3].weight
    torch.testing.assert_close(weight @ weight.T, 4 * torch.eye(3))


def test_the_head_is_stored_as_the_last_layer_of_the_network(make_module: Make) -> None:
    names = ["network.0.weight", "network.0.bias", "network.3.weight"]
    assert list(make_module(head=ArcFace).state_dict()) == names


def test_mixed_images_are_refused_where_there_is_a_margin(make_module: Make, make_data: Make) -> None:
    data = make_data(soft_targets=True)
    with pytest.raises(ValueError, match=r"ArcFace: .* Leave out mixup and cutmix"):
        make_module(head=ArcFace).training_step((data.images, data.targets), 0)


# --- class weights --------------------------------------------------------------------------------------------------


class Labelled(Dataset[tuple[Tensor, Tensor]]):
    """Images with their targets in a list, as torchvision keeps them."""

    def __init__(self, images: Tensor, targets: list[int]) -> None:
        self.images = images
        self.targets = targets

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.images[index], torch.tensor(self.targets[index])


@pytest.mark.parametrize("around", [lambda loss: loss, OHEM], ids=["alone", "in another"])
def test_a_loss_learns_the_frequencies_of_the_training_samples(
    around: Callable[[nn.Module], nn.Module], make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    weighted = ClassWeightedCrossEntropy(3, reduction="none" if around is OHEM else "mean")
    train = Labelled(make_data().images, [0] * 6 + [1] * 3 + [2])
    module = make_module(loss=around(weighted))
    make_trainer().fit(module, DataLoader(train, batch_size=5), DataLoader(train, batch_size=5))
    torch.testing.assert_close(weighted.weight, torch.tensor([10 / 18, 10 / 9, 10 / 3]))
    other = make_module(loss=around(ClassWeightedCrossEntropy(3, reduction=weighted.reduction)))
    other.load_state_dict(module.state_dict())
    torch.testing.assert_close(other.state_dict(), module.state_dict())


def test_training_data_without_targets_is_refused(make_module: Make, make_data: Make, make_trainer: Make) -> None:
    module = make_module(loss=ClassWeightedCrossEntropy(3))
    with pytest.raises(ValueError, match="ClassWeightedCrossEntropy needs the targets of all training samples, but"):
        make_trainer().fit(module, datamodule=make_data())

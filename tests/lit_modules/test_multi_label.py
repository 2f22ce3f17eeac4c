"""LitClassifier on images that have several labels."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score
from torch import nn

from lit_modules import LitClassifier
from lit_modules.inference import HorizontalFlipViews, Inference
from lit_modules.losses import OHEM, BinaryCrossEntropy, FBetaLoss, LovaszHinge
from lit_modules.metrics import MultiLabelMetrics
from lit_modules.outputs import SigmoidOutputs

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")

Make = Callable[..., Any]
LOSSES = [BinaryCrossEntropy(), OHEM(BinaryCrossEntropy(reduction="none")), FBetaLoss(), LovaszHinge()]


def make_multi_label(make_module: Make, **changes: Any) -> LitClassifier:
    arguments = {"loss": BinaryCrossEntropy(), "outputs": SigmoidOutputs(), "metrics": MultiLabelMetrics(3)}
    return make_module(**(arguments | changes))


@pytest.fixture
def data(make_data: Make) -> Any:
    several = make_data()
    several.targets = torch.randint(2, (10, 3), generator=torch.Generator().manual_seed(1))
    return several


def test_what_is_logged_and_predicted_is_that_of_the_labels_apart(
    data: Any, make_module: Make, make_trainer: Make
) -> None:
    module, trainer = make_multi_label(make_module, optimizer=partial(torch.optim.SGD, lr=0.0)), make_trainer()
    trainer.fit(module, datamodule=data)
    logged = {name: value.item() for name, value in trainer.callback_metrics.items()}
    logged |= trainer.test(module, datamodule=data, verbose=False)[0]
    with torch.no_grad():
        scores = module(data.images)
    expected = {
        "loss": -torch.where(data.targets == 1, scores.sigmoid(), 1 - scores.sigmoid()).log().sum(1).mean().item(),
        "map": average_precision_score(data.targets.numpy(), scores.numpy(), average="macro"),
        "f1": f1_score(data.targets.numpy(), (scores > 0).numpy(), average="macro"),
    }
    names = [f"{split}/{name}" for split in ("val", "test") for name in expected]
    assert sorted(logged) == sorted([*names, "train/loss"])
    assert logged.pop("train/loss") == pytest.approx(expected["loss"] / 3, rel=1e-5), "its own is the mean over labels"
    assert logged == pytest.approx({name: expected[name.partition("/")[2]] for name in logged}, rel=1e-5)
    torch.testing.assert_close(module.predictions["probabilities"], scores.sigmoid())
    assert torch.equal(module.predictions["targets"], data.targets)


def test_views_average_the_probabilities_of_each_label(data: Any, make_module: Make, make_trainer: Make) -> None:
    module, views = make_multi_label(make_module), HorizontalFlipViews()
    module.inference = Inference(views=views)
    scores = make_trainer().test(module, datamodule=data, verbose=False)[0]
    with torch.no_grad():
        naive = torch.stack([module.network(view).sigmoid() for view in views(data.images)]).mean(0)
    torch.testing.assert_close(module.predictions["probabilities"], naive)
    chances = torch.where(data.targets == 1, naive, 1 - naive)
    assert scores["test/loss"] == pytest.approx(-chances.log().sum(1).mean().item(), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_every_loss_of_several_labels_trains(loss: nn.Module, data: Any, make_module: Make, make_trainer: Make) -> None:
    module = make_multi_label(make_module, loss=loss)
    before = module.network[3].weight.detach().clone()
    trainer = make_trainer(max_epochs=2)
    trainer.fit(module, datamodule=data)
    with torch.no_grad():
        chances = module(data.images).sigmoid()
    naive = -torch.where(data.targets == 1, chances, 1 - chances).log().sum(1).mean().item()
    assert trainer.callback_metrics["val/loss"].item() == pytest.approx(naive, rel=1e-5)
    assert not torch.equal(before, module.network[3].weight)

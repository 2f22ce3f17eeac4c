"""LitRetriever against plain code over the same data."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.callbacks import ModelCheckpoint
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import BatchHardMiner
from torch import Tensor, nn

from callbacks import EMA, LinearWarmup
from datamodules import DigitsRetrieval
from lit_modules import DivergedError, LitRetriever
from lit_modules.inference import HorizontalFlipViews, Inference, QueryExpansion, Ranking, ReRanking
from lit_modules.losses import ArcFace, BatchHardTripletLoss, CenterLoss, FeatureLoss
from lit_modules.metrics.retrieval import GroundTruth, expand_queries, rank_by_features, score_ranks
from lit_modules.models import MultiGranularity, PartFeatures, ResNet
from tests.helpers.distributed import run_distributed
from tests.helpers.one_weight import fit, fit_until_crash, make_trainer

SGD = partial(torch.optim.SGD, lr=0.1)
LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 3, 4])


def make_module(norm: str = "batch", classes: int = 5, **changes: Any) -> LitRetriever:
    torch.manual_seed(0)
    network = ResNet(classes, [1, 1], "basic", width=4, in_channels=1, stem="small", norm=norm)  # type: ignore[arg-type]
    arguments = {
        "network": network,
        "loss": nn.CrossEntropyLoss(),
        "optimizer": SGD,
        "feature_losses": [FeatureLoss(BatchHardTripletLoss(0.3), weight=0.5)],
    }
    return LitRetriever(**{**arguments, **changes})


def make_data(identities: int = 4, **changes: Any) -> DigitsRetrieval:
    """16 images of each digit for training: at P = 4 and K = 2, eight steps and more."""
    torch.manual_seed(0)
    return DigitsRetrieval(16, identities_per_batch=identities, images_per_identity=2, **changes)


def make_images(count: int = 8) -> Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def attach_trainer(module: LitRetriever) -> LitRetriever:
    module.trainer = make_trainer()
    return module


# --- training -------------------------------------------------------------------------------------------------------


def test_losses_add_up() -> None:
    module = attach_trainer(make_module(center_weight=0.01))
    reference = copy.deepcopy(module.network)
    loss = module.training_step((make_images(), LABELS), 0)

    features = F.adaptive_avg_pool2d(reference.forward_features(make_images()), 1).flatten(1)
    assert module.center_loss is not None
    expected = F.cross_entropy(reference.fc(features), LABELS)
    expected = expected + 0.5 * BatchHardTripletLoss(0.3)(features, LABELS)
    expected = expected + 0.01 * (features - module.center_loss.centers[LABELS]).square().sum(1).mean()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(module.train_loss.compute(), expected.detach())


def test_losses_and_miners_of_pytorch_metric_learning_fit() -> None:
    features = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
    loss, miner = TripletMarginLoss(), BatchHardMiner()
    found = FeatureLoss(loss, 2.0, miner)(features, LABELS)
    torch.testing.assert_close(found, 2 * loss(features, LABELS, miner(features, LABELS)))
    with pytest.raises(ValueError, match=r"weight is 0.* must be above 0"):
        FeatureLoss(loss, 0)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_centres_take_steps_of_their_own(accumulate: int) -> None:
    module = make_module(center_weight=0.01, center_lr=0.5, optimizer=partial(torch.optim.SGD, lr=0.0, weight_decay=9))
    assert module.center_loss is not None
    expected = module.center_loss.centers.detach().clone()
    batches: list[tuple[Tensor, Tensor]] = []

    class Collect(L.Callback):
        def on_train_batch_start(self, *arguments: Any) -> None:
            batches.append(arguments[2])

    fit(module, Collect(), datamodule=make_data(), max_epochs=1, limit_train_batches=4, limit_val_batches=0,
        accumulate_grad_batches=accumulate)  # fmt: skip
    # The network does not move, since its rate is 0, and its batch norms see each batch by itself.
    module.train()
    features = [F.adaptive_avg_pool2d(module.network.forward_features(images), 1).flatten(1) for images, _ in batches]
    for start in range(0, 4, accumulate):
        step = torch.zeros_like(expected)
        for each, (_, labels) in zip(features[start : start + accumulate], batches[start:], strict=False):
            for feature, label in zip(each, labels.tolist(), strict=True):
                step[label] += 2 * (expected[label] - feature.detach()) / len(labels) / accumulate
        expected -= 0.5 * step
    torch.testing.assert_close(module.center_loss.centers.detach(), expected)


def test_centres_are_not_in_the_optimizer_and_take_part_in_no_clipping() -> None:
    module = attach_trainer(make_module(center_weight=0.01))
    optimizer = module.configure_optimizers()
    listed = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    assert listed == set(module.network.parameters())


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    def callbacks() -> list[L.Callback]:
        return [LinearWarmup(0.5), EMA(0.9), ModelCheckpoint(tmp_path, save_last=True, save_on_train_epoch_end=True)]

    settings: dict[str, Any] = {"max_epochs": 2, "limit_val_batches": 0}
    straight, first, resumed = (make_module(center_weight=0.01, neck="batch_norm") for _ in range(3))
    ema = EMA(0.9)
    fit(straight, LinearWarmup(0.5), ema, datamodule=make_data(), **settings)
    fit_until_crash(first, *callbacks(), epoch=1, datamodule=make_data(), **settings)
    again = callbacks()
    fit(resumed, *again, datamodule=make_data(), ckpt_path=tmp_path / "last.ckpt", **settings)
    torch.testing.assert_close(resumed.state_dict(), straight.state_dict(), rtol=0, atol=0)
    averages = [each.stored_weights(resumed)["ema"] for each in (ema, again[1])]  # type: ignore[attr-defined]
    torch.testing.assert_close(averages[0], averages[1], rtol=0, atol=0)


def test_a_neck_stands_between_distances_and_classes() -> None:
    module = attach_trainer(make_module(neck="batch_norm"))
    (branch,) = module.network.embed(make_images())
    torch.testing.assert_close(branch.after.mean(0), torch.zeros(8), atol=1e-5, rtol=0)
    torch.testing.assert_close(branch.scores, branch.after @ module.network.fc.weight.T)
    assert module.network.fc.bias is None and not module.network.neck.bias.requires_grad
    assert module.network.fc.weight.std() < 0.002
    module.eval()
    with torch.no_grad():
        (branch,) = module.network.embed(make_images())
        for which, expected in (("before", branch.before), ("after", branch.after), (None, branch.after)):
            module.inference = Inference(feature=which)  # type: ignore[arg-type]
            torch.testing.assert_close(module(make_images()), expected)


def test_losses_of_distances_act_before_the_neck() -> None:
    module = attach_trainer(make_module(neck="batch_norm", center_weight=0.01))
    (branch,) = found = module.network.embed(make_images())
    assert module.center_loss is not None
    expected = F.cross_entropy(branch.scores, LABELS) + 0.5 * BatchHardTripletLoss(0.3)(branch.before, LABELS)
    expected = expected + 0.01 * module.center_loss(branch.before, LABELS)
    assert (branch.before - branch.after).abs().max() > 0.1
    torch.testing.assert_close(module._add_losses(found, LABELS), expected)


def test_a_margin_lowers_the_label_in_training_alone() -> None:
    module = attach_trainer(make_module(head=ArcFace, neck="batch_norm", feature_losses=[]))
    loss = module.training_step((make_images(), LABELS), 0)
    (branch,) = module.network.embed(make_images())
    torch.testing.assert_close(loss, F.cross_entropy(module.network.fc(branch.after, LABELS), LABELS))
    assert loss > F.cross_entropy(branch.scores, LABELS)


@pytest.mark.parametrize("branches", [partial(PartFeatures, parts=2, width=3), partial(MultiGranularity, width=3)])
def test_the_loss_is_the_mean_over_branches(branches: Callable[..., nn.Module]) -> None:
    module = attach_trainer(make_module(branches=branches, center_weight=0.01))
    loss = module.training_step((torch.rand(8, 1, 12, 8), LABELS), 0)
    loss.backward()
    assert all(parameter.grad is not None for parameter in module.parameters() if parameter.requires_grad)
    images = make_images()
    found = module.network.embed(images)
    module.feature_losses, module.center_loss = nn.ModuleList(), None
    expected = sum(F.cross_entropy(branch.scores, LABELS).item() for branch in found) / len(found)
    assert module._add_losses(found, LABELS).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("branches", [partial(PartFeatures, parts=2, width=3), partial(MultiGranularity, width=3)])
def test_features_of_parts_take_part_in_no_loss_of_distances(branches: Callable[..., nn.Module]) -> None:
    module = attach_trainer(make_module(branches=branches))
    found = module.network.embed(torch.rand(8, 1, 12, 8, generator=torch.Generator().manual_seed(0)))
    classes = torch.stack([F.cross_entropy(branch.scores, LABELS) for branch in found]).mean()
    triplets = [BatchHardTripletLoss(0.3)(branch.before, LABELS) for branch in found if branch.is_global]
    assert 0 < len(triplets) < len(found)
    torch.testing.assert_close(module._add_losses(found, LABELS), classes + 0.5 * torch.stack(triplets).mean())


# --- evaluation -----------------------------------------------------------------------------------------------------


def naive_features(module: LitRetriever, data: DigitsRetrieval) -> tuple[Tensor, Tensor, GroundTruth]:
    entries = data.sets["test"]
    with torch.no_grad():
        (branch,) = module.eval().network.embed(entries.images.float() / 255)
    identities, _, roles = entries.targets.unbind(1)
    truth = GroundTruth(identities[roles == 1], identities[roles == 2])
    return branch.after[roles == 1], branch.after[roles == 2], truth


def test_scores_are_those_of_the_ranking_of_all_features() -> None:
    module, data, trainer = make_module(), make_data(eval_batch_size=100), make_trainer()
    (scores,) = trainer.test(module, datamodule=data, verbose=False)
    query, gallery, truth = naive_features(module, data)
    expected = score_ranks(rank_by_features(query, gallery, truth))
    assert scores == pytest.approx(
        {
            "test/map": expected.map,
            "test/minp": expected.minp,
            **{f"test/recall_at_{k}": expected.rank(k) for k in (1, 5, 10)},
            "test/unmatched_queries": 0,
        }
    )
    assert torch.equal(module.predictions["targets"], data.sets["test"].targets)
    torch.testing.assert_close(module.predictions["features"][data.sets["test"].targets[:, 2] == 1], query)
    assert torch.equal(torch.cat(trainer.predict(module, datamodule=data)), module.predictions["features"])


@pytest.mark.parametrize(
    "inference",
    [
        Inference(distance="cosine"),
        Inference(query_expansion=QueryExpansion(3)),
        Inference(re_ranking=ReRanking(5, 2, 0.5)),
        Inference(re_ranking=ReRanking(5, 2, 0.5), query_expansion=QueryExpansion(3)),
    ],
)
def test_inference_says_how_the_gallery_is_ranked(inference: Inference) -> None:
    module, data = make_module(), make_data()
    module.inference = inference
    (scores,) = make_trainer().test(module, datamodule=data, verbose=False)
    features, targets = module.predictions["features"], data.sets["test"].targets
    roles, identities = targets[:, 2], targets[:, 0]
    query, gallery, distance = features[roles == 1], features[roles == 2], inference.distance or "euclidean"
    if inference.query_expansion is not None:
        query, distance = expand_queries(query, gallery, 3), "cosine"
    truth = GroundTruth(identities[roles == 1], identities[roles == 2])
    plain = score_ranks(rank_by_features(query, gallery, truth, distance)).map
    if inference.re_ranking is None:
        assert scores["test/map"] == pytest.approx(plain)
    else:
        assert scores["test/map"] != pytest.approx(plain, abs=1e-4)
    assert scores["test/map"] == pytest.approx(module.ranking().score(features, targets).map)


def test_no_image_is_its_own_match_when_all_rank_all() -> None:
    features = torch.tensor([[0.0], [0.1], [5.0], [10.2]])
    targets = torch.tensor([[7, -1, 3], [7, -1, 3], [8, -1, 3], [8, -1, 3]])
    scores = Ranking().score(features, targets)
    assert scores.rank(1) == 0.75  # 5.0 is nearer to 0.1
    targets[3, 0] = 9
    assert (Ranking().score(features, targets).unmatched, Ranking().score(features, targets).queries) == (2, 2)


def test_features_are_means_over_views() -> None:
    module = make_module()
    module.inference = Inference(views=HorizontalFlipViews())
    module.eval()
    images = make_images()
    with torch.no_grad():
        mean = (module(images) + module(images.flip(-1))) / 2
        torch.testing.assert_close(module.predict_step((images, LABELS), 0), mean)


def test_several_networks_give_their_features_side_by_side() -> None:
    first, second = make_module().eval(), make_module(norm="none").eval()
    with torch.no_grad():
        expected = [F.normalize(module(make_images())) for module in (first, second)]
        first.network = first.combine([first.network, second.network])
        torch.testing.assert_close(first(make_images()), torch.cat(expected, dim=1))


# --- two processes --------------------------------------------------------------------------------------------------


def fit_and_test(identities: int, distributed: bool) -> tuple[list[float], dict[str, float]]:
    """Train without batch norm, whose statistics are those of each process; return weights and scores."""
    module, data = make_module(norm="none", center_weight=0.01), make_data(identities)
    settings: dict[str, Any] = {"max_epochs": 2, "check_val_every_n_epoch": 2}
    if distributed:
        trainer = make_trainer(strategy="ddp", devices=2, **settings)
        trainer.fit(module, datamodule=data)
    else:
        trainer = fit(module, datamodule=data, **settings)
    logged = dict(trainer.callback_metrics)
    logged |= trainer.test(module, datamodule=data, verbose=False)[0]
    assert module.center_loss is not None
    weights = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    return weights.tolist(), {name: float(value) for name, value in logged.items()}


def test_two_processes_train_and_score_as_one_with_twice_the_batch() -> None:
    weights, scores = fit_and_test(4, distributed=False)
    found = run_distributed(fit_and_test, 2, True)
    assert found[0] == found[1]
    assert found[0][0] == pytest.approx(weights, rel=1e-3, abs=1e-5)
    assert set(scores) == set(found[0][1]) and "val/map" in scores
    assert found[0][1] == pytest.approx(scores, rel=1e-3)


# --- what goes wrong ------------------------------------------------------------------------------------------------


def test_a_network_of_the_wrong_width_is_refused() -> None:
    with pytest.raises(ValueError, match=r"has 7 outputs, but the datamodule trains on 5 identities"):
        fit(make_module(classes=7), datamodule=make_data())


@pytest.mark.parametrize("arguments", [{"center_weight": 0.0}, {"center_weight": 1.0, "center_lr": 0.0}])
def test_a_center_loss_without_weight_or_rate_is_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        make_module(**arguments)


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    class Broken(nn.CrossEntropyLoss):
        def forward(self, scores: Tensor, targets: Tensor) -> Tensor:
            return super().forward(scores, targets) * float("nan")

    with pytest.raises(DivergedError):
        fit(make_module(loss=Broken(), feature_losses=[]), datamodule=make_data(), limit_val_batches=0)


@pytest.mark.parametrize(
    "make", [partial(ReRanking, k1=0), partial(ReRanking, original_weight=2), partial(QueryExpansion, 0)]
)
def test_rankings_out_of_range_are_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        make()


def test_the_centres_survive_half_precision() -> None:
    module = make_module(center_weight=0.01, center_lr=0.5)
    trainer = fit(module, datamodule=make_data(), max_epochs=1, limit_val_batches=0, precision="bf16-mixed")
    assert isinstance(module.center_loss, CenterLoss) and module.center_loss.centers.dtype == torch.float32
    assert torch.isfinite(trainer.callback_metrics["train/loss"])

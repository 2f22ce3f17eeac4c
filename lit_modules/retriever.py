"""Image retrieval as a LightningModule: training by identities, scoring by the ranking of a gallery.

It holds no trick; a trick is another network, neck, head, loss, optimizer, schedule, callback or inference.
"""

import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from lit_modules.channels_last import to_channels_last
from lit_modules.inference import Inference, PixelRange, Ranking
from lit_modules.inference.gather import gather_in_dataset_order
from lit_modules.initialization import Initialization
from lit_modules.losses import CenterLoss, FeatureLoss, HeadCallable, replace_last_layer
from lit_modules.losses.margin_head import find_heads
from lit_modules.models import EmbeddingEnsemble, ResNet, add_bnneck
from lit_modules.models.branch import Branch, concatenate
from lit_modules.optimizer_setup import ScheduleCallable, set_up_schedule
from lit_modules.parameter_groups import ParameterGroups
from lit_modules.pictures import TaskPicture
from lit_modules.ranking_pictures import ranking_pictures
from lit_modules.training_loss import LogsTrainingLoss

BranchesCallable = Callable[[ResNet, Callable[[int, int], nn.Linear]], nn.Module]
Batch = tuple[Tensor, Tensor]
Collected = list[Batch]

RANKS = (1, 5, 10)
"""The ranks k of which Recall@k, which re-identification calls rank-k, is logged."""


class LitRetriever(LogsTrainingLoss):
    """Trains a network to tell identities apart, and scores how its features rank a gallery of others.

    A training batch is images ``(N, C, H, W)`` and labels ``(N,)``. One of evaluation has targets ``(N, 3)``: identity,
    camera (-1 is unknown) and role (1 query, 2 gallery, 3 both), as `datamodules.RetrievalDataModule` gives them.

    Logs ``train/loss``, the mean over an epoch's samples, and of ``val`` and ``test`` ``map``, ``minp``,
    ``recall_at_1``, ``recall_at_5``, ``recall_at_10`` and ``unmatched_queries``, the number of those without a right
    entry in the gallery, which count in no mean. Features of all processes are gathered before they are ranked, so
    scores do not depend on their number. Neither does the training: losses of distances see the features of all.

    Example::

        module = LitRetriever(
            network=ResNet(num_classes=80, layers=[1, 1, 1], block="basic", width=16, stem="small"),
            loss=nn.CrossEntropyLoss(),
            feature_losses=[FeatureLoss(BatchHardTripletLoss(margin=0.3))],
            neck="batch_norm",
            optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        )

    Args:
        network: Its pooled vector is the feature, its last layer has a score for each training identity.
        loss: Maps class scores ``(N, K)`` and labels to a scalar; the mean over branches counts.
        optimizer: Makes the optimizer from the parameter groups.
        schedule: As in `LitClassifier`, and so are the following five.
        parameter_groups: See there.
        channels_last: See there.
        init: See there; the neck and what ``branches`` adds keep their own.
        head: See there.
        feature_losses: Losses of distances between features before the neck, added up; the mean over branches that are
            of the whole image counts.
        center_weight: Weight of the center loss (Wen et al. 2016; 5e-4 in arXiv:1903.07071). None is none.
        center_lr: Learning rate of the SGD of the centres, which has no momentum, decay and schedule.
        neck: What stands between the feature and the last layer: ``"batch_norm"`` is `BNNeck`.
        branches: Makes a network with further features out of the network and of what makes a last layer from the
            length of a feature and the number of classes, such as `PartFeatures`. None has the pooled vector alone.

    Attributes:
        inference: How test and predict score the network. Replace it before testing to score in another way.
        predictions: After a test: ``"features"`` ``(N, D)`` in float32 and ``"targets"`` ``(N, 3)``, on the CPU and in
            the order of the data set, on every rank.

    Raises:
        DivergedError: When a training epoch ends whose mean loss is NaN or infinite.
        ValueError: If a weight or rate is not above 0; when the first batch shows that the network's scores are not as
            many as the datamodule's identities; when no query has a right entry; as `LitClassifier` for schedules.
    """

    scored_part = "network"

    def __init__(
        self,
        network: ResNet,
        loss: nn.Module,
        optimizer: OptimizerCallable,
        schedule: ScheduleCallable | None = None,
        parameter_groups: ParameterGroups = ParameterGroups(),  # noqa: B008 (frozen)
        channels_last: bool = True,
        init: Initialization | None = None,
        head: HeadCallable | None = None,
        feature_losses: Sequence[FeatureLoss] = (),
        center_weight: float | None = None,
        center_lr: float = 0.5,
        neck: Literal["batch_norm"] | None = None,
        branches: BranchesCallable | None = None,
    ) -> None:
        super().__init__()
        if not center_lr > 0 or not (center_weight is None or center_weight > 0):
            raise ValueError(
                f"LitRetriever: center_weight={center_weight} and center_lr={center_lr} must be above 0; no "
                f"center_weight is no center loss."
            )
        self.network = assemble_network(network, init, neck, head, branches)
        if channels_last:
            self.network = to_channels_last(self.network)
        self.loss = loss
        self.feature_losses = nn.ModuleList(feature_losses)
        self.center_loss: CenterLoss | None = None
        if center_weight is not None:
            self.center_loss = CenterLoss(self.network.num_classes, self.network.num_global_features)
        self.center_weight = center_weight
        self.center_lr = center_lr
        self.optimizer = optimizer
        self.schedule = schedule
        self.parameter_groups = parameter_groups
        self.channels_last = channels_last
        self._heads = find_heads(self.network)

        self.inference = Inference()
        self.predictions: dict[str, Tensor] = {}
        self._evaluated: Collected = []
        self._expected_classes: int | None = None
        self._pixel_range = PixelRange()
        self._center_optimizer: Optimizer | None = None

    def setup(self, stage: str) -> None:
        datamodule = getattr(self.trainer, "datamodule", None)
        self._expected_classes = getattr(datamodule, "num_classes", None)
        self._pixel_range = PixelRange(datamodule)

    def configure_optimizers(self) -> Any:
        """Make the optimizer of all but the centres, which have their own beside it.

        Their plain SGD holds no state, so no checkpoint needs it, and Lightning knows of one optimizer alone: whatever
        counts its steps or sets its rate works with the center loss too.
        """
        trained = nn.ModuleDict({name: part for name, part in self.named_children() if name != "center_loss"})
        if self.center_loss is not None:
            self._center_optimizer = torch.optim.SGD(self.center_loss.parameters(), self.center_lr)
        return set_up_schedule(self, self.parameter_groups.make_optimizer(trained, self.optimizer), self.schedule)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to features ``(N, D)`` in float32, those that ``inference`` asks for."""
        return concatenate(self._embed(images), self.inference.feature or "after").float()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        images, labels = batch
        with contextlib.ExitStack() as margins:
            for head in self._heads:
                margins.enter_context(head.aim(labels))
            branches = self._embed(images)
        if self._expected_classes is not None:
            self._check_number_of_classes(branches[0].scores.shape[-1])
        loss = self._add_losses(branches, labels)
        return self.count_loss(loss, len(images))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Move the centres, by the gradient of the center loss without its weight."""
        if self._center_optimizer is None or self.center_loss is None or self.center_loss.centers.grad is None:
            return
        assert self.center_weight is not None  # else there would be no center loss
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        gradient = self.center_loss.centers.grad
        gradient /= self.center_weight * (1.0 if scaler is None else scaler.get_scale())
        if scaler is not None:  # it drops a step whose gradient has overflowed
            gradient.mul_(gradient.isfinite().all()).nan_to_num_(0.0, 0.0, 0.0)
        self._center_optimizer.step()
        self._center_optimizer.zero_grad()

    def on_validation_epoch_start(self) -> None:
        self._evaluated = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self._evaluated.append((concatenate(self._embed(images), "after").float(), targets))

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            self._evaluated = []  # a few batches may hold no query with a right entry
            return
        self._score("val", self._gather(self.trainer.val_dataloaders), Ranking())

    def on_test_epoch_start(self) -> None:
        self._evaluated = []
        self.predictions = {}

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        images, targets = batch
        self._evaluated.append((self._embed_views(images), targets))

    def on_test_epoch_end(self) -> None:
        gathered = self._gather(self.trainer.test_dataloaders)
        self._score("test", gathered, self.ranking())
        self.predictions = {name: part.cpu() for name, part in zip(("features", "targets"), gathered, strict=True)}

    def predict_step(self, batch: Batch | Tensor, batch_idx: int) -> Tensor:
        """Map a batch, or its images alone, to features ``(N, D)``, the means over the views."""
        return self._embed_views(batch if isinstance(batch, Tensor) else batch[0])

    def pictures(self, datamodule: L.LightningDataModule, most: int) -> list[TaskPicture]:
        """Show what the last test ranked first; see `ShowsPictures`."""
        return ranking_pictures(
            self.ranking(), self.predictions["features"], self.predictions["targets"], datamodule, most
        )

    def ranking(self) -> Ranking:
        """Return how ``inference`` ranks a gallery."""
        how = self.inference
        return Ranking(how.distance or "euclidean", how.re_ranking, how.query_expansion)

    def combine(self, members: Sequence[nn.Module]) -> nn.Module:
        """Return a network whose features are those of all members, each of norm 1, one behind the other."""
        return EmbeddingEnsemble(members)

    def _embed(self, images: Tensor) -> list[Branch]:
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return self.network.embed(images)

    def _embed_views(self, images: Tensor) -> Tensor:
        """Map images to the means over the views of their features, ``(N, D)``."""
        if self.inference.views is None:
            return self(images)
        views = self.inference.views.filled(images, self._pixel_range.black(images))
        return torch.stack([self(view) for view in views]).mean(0)

    def _add_losses(self, branches: Sequence[Branch], labels: Tensor) -> Tensor:
        """Add up identity loss, losses of distances and center loss."""
        loss = torch.stack([self.loss(branch.scores.float(), labels) for branch in branches]).mean()
        whole = [branch.before.float() for branch in branches if branch.is_global]
        if self.feature_losses:
            all_labels = self._gather_with_gradient(labels)
            features = [self._gather_with_gradient(each) for each in whole]
            for feature_loss in self.feature_losses:
                loss = loss + torch.stack([feature_loss(each, all_labels) for each in features]).mean()
        if self.center_loss is not None:
            loss = loss + self.center_weight * self.center_loss(torch.cat(whole, dim=1), labels)
        return loss

    def _gather_with_gradient(self, values: Tensor) -> Tensor:
        """Return the values of all processes, ``(n, ...)`` each, one behind the other."""
        if self.trainer.world_size == 1:
            return values
        gathered = self.all_gather(values, sync_grads=values.is_floating_point())
        assert isinstance(gathered, Tensor)  # as what is gathered is one
        return gathered.flatten(0, 1)

    def _gather(self, loader: Any) -> Batch:
        """Return features and targets of all images of an evaluation, in the order of the data set."""
        parts, self._evaluated = self._evaluated, []
        features, targets = (
            gather_in_dataset_order(self.trainer, torch.cat(each), loader) for each in zip(*parts, strict=True)
        )
        return features, targets

    def _score(self, split: str, gathered: Batch, ranking: Ranking) -> None:
        scores = ranking.score(*gathered)
        recalls = {f"{split}/recall_at_{k}": scores.rank(k) for k in RANKS}
        values = {f"{split}/map": scores.map, f"{split}/minp": scores.minp, **recalls}
        # every rank has the same numbers
        self.log_dict({**values, f"{split}/unmatched_queries": float(scores.unmatched)}, rank_zero_only=False)

    def _check_number_of_classes(self, width: int) -> None:
        """Compare the width of the first scores with the datamodule's number of identities; once a stage is enough."""
        expected, self._expected_classes = self._expected_classes, None
        if width != expected:
            raise ValueError(
                f"LitRetriever: the network has {width} outputs, but the datamodule trains on {expected} identities. "
                f"Set the network's num_classes to {expected}."
            )


def assemble_network(
    network: ResNet,
    init: Initialization | None,
    neck: Literal["batch_norm"] | None,
    head: HeadCallable | None,
    branches: BranchesCallable | None,
) -> Any:
    """Put what a retriever trains together; arguments are those of `LitRetriever`."""
    if init is not None:
        init(network)
    if neck is not None:
        add_bnneck(network)
    if head is not None:
        replace_last_layer(network, head)
    if branches is None:
        return network
    make_last_layer: Callable[[int, int], nn.Linear] = partial(nn.Linear, bias=False) if head is None else head
    return branches(network, make_last_layer)

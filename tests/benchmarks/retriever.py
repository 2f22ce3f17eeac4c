"""How fast a retriever trains, against a bare loop over the same batches."""

import statistics
import time

import lightning as L
import torch
import torch.nn.functional as F

from ablations.parsing import build
from datamodules import InMemoryImages, RetrievalDataModule
from lit_modules.losses import BatchHardTripletLoss
from lit_modules.models import ResNet, add_bnneck
from tests.ablations.tricks.case import QUIET, base_recipe
from tests.benchmarks.report import Figure, seconds

IDENTITIES, IMAGES, EPOCHS = 60, 24, 41


class RandomIdentities(RetrievalDataModule):
    """Noise of 28 x 28 pixels: speed does not look at pictures."""

    image_shape = (1, 28, 28)

    def load(self) -> InMemoryImages:
        generator = torch.Generator().manual_seed(0)
        shape = ((IDENTITIES + 4) * IMAGES, 1, 28, 28)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        return InMemoryImages(images, torch.arange(len(images)) // IMAGES)

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(map(str, identities))

    def split(self, targets: torch.Tensor) -> dict[str, torch.Tensor]:
        trained = targets < IDENTITIES
        tested, nothing = (~trained).nonzero().flatten(), torch.empty(0, dtype=torch.int64)
        parts = {"train": trained.nonzero().flatten(), "test_query": tested, "test_gallery": tested}
        return {**parts, "val_query": nothing, "val_gallery": nothing}


class _BareEpochs(L.Callback):
    """Trains an epoch in a bare loop after each of Lightning's, and times both.

    An epoch takes a second, so whatever else the machine does touches both alike.
    """

    def __init__(self) -> None:
        self.network = ResNet(IDENTITIES, [1, 1, 1], "basic", width=16, in_channels=1, stem="small")
        add_bnneck(self.network)
        self.network = self.network.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)
        self.data, self.triplet = RandomIdentities(), BatchHardTripletLoss()
        self.data.setup()
        self.ratios: list[float] = []
        self.returned = 0.0

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        with_lightning = time.perf_counter() - self.returned
        bare = seconds(self.train_epoch)
        if trainer.current_epoch > 0:
            self.ratios.append(bare / with_lightning)
        self.returned = time.perf_counter()

    def train_epoch(self) -> None:
        for images, labels in self.data.train_dataloader():
            batch = (images.float() / 255).contiguous(memory_format=torch.channels_last)
            (branch,) = self.network.embed(batch)
            loss = F.cross_entropy(branch.scores, labels) + self.triplet(branch.before, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def throughput() -> Figure:
    """Images a second of a small ResNet with neck and triplets, in LitRetriever and in a bare loop."""
    recipe = base_recipe("digits_retrieval")
    arguments = recipe["model"]["init_args"]
    arguments["network"]["init_args"] |= {"num_classes": IDENTITIES, "width": 16}
    triplet = {"class_path": "lit_modules.losses.BatchHardTripletLoss", "init_args": {}}
    arguments["feature_losses"] = [{"class_path": "lit_modules.losses.FeatureLoss", "init_args": {"loss": triplet}}]
    arguments["neck"] = "batch_norm"
    recipe["data"] = {"class_path": f"{__name__}.RandomIdentities"}
    parts, bare = build(recipe), _BareEpochs()
    settings = {**parts.trainer_arguments, **QUIET, "callbacks": [bare], "max_epochs": EPOCHS}
    L.Trainer(**settings).fit(parts.module, datamodule=parts.datamodule)
    return Figure("throughput of LitRetriever / bare loop", statistics.median(bare.ratios), 0.95, at_most=False)

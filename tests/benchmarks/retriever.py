"""How fast a retriever trains, against a bare loop over the same batches."""

import time

import lightning as L
import torch
import torch.nn.functional as F

from ablations.parsing import build
from callbacks import CostMonitor
from datamodules import InMemoryImages, RetrievalDataModule
from lit_modules.losses import BatchHardTripletLoss
from lit_modules.models import ResNet, add_bnneck
from tests.ablations.tricks.case import QUIET, base_recipe
from tests.benchmarks.report import Figure, median_ratio

IDENTITIES, IMAGES, EPOCHS = 60, 8, 2


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


def throughput() -> Figure:
    """Images a second of a small ResNet with neck and triplets, in LitRetriever and in a bare loop."""

    def with_lightning() -> float:
        recipe = base_recipe("digits_retrieval")
        arguments = recipe["model"]["init_args"]
        arguments["network"]["init_args"] |= {"num_classes": IDENTITIES, "width": 16}
        triplet = {"class_path": "lit_modules.losses.BatchHardTripletLoss", "init_args": {}}
        arguments["feature_losses"] = [{"class_path": "lit_modules.losses.FeatureLoss", "init_args": {"loss": triplet}}]
        arguments["neck"] = "batch_norm"
        recipe["data"] = {"class_path": f"{__name__}.RandomIdentities"}
        parts, costs = build(recipe), CostMonitor()
        settings = {**parts.trainer_arguments, **QUIET, "callbacks": [costs], "max_epochs": EPOCHS}
        L.Trainer(**settings).fit(parts.module, datamodule=parts.datamodule)
        return costs.summary()["images_per_second"]

    def bare() -> float:
        network = ResNet(IDENTITIES, [1, 1, 1], "basic", width=16, in_channels=1, stem="small")
        add_bnneck(network)
        network = network.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-3)
        data, triplet = RandomIdentities(), BatchHardTripletLoss()
        data.setup()
        seen, started = 0, time.perf_counter()
        for _ in range(EPOCHS):
            for images, labels in data.train_dataloader():
                batch = (images.float() / 255).contiguous(memory_format=torch.channels_last)
                (branch,) = network.embed(batch)
                loss = F.cross_entropy(branch.scores, labels) + triplet(branch.before, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                seen += len(images)
        return seen / (time.perf_counter() - started)

    ratio = median_ratio(with_lightning, bare, pairs=5)
    return Figure("throughput of LitRetriever / bare loop", ratio, 0.95, at_most=False)

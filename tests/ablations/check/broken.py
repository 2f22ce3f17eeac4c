"""Networks, data and modules that are broken in one way each, to be named in recipes."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from datamodules import Digits, InMemoryImages
from datamodules.images import Batch
from lit_modules import LitClassifier

ENDINGS: dict[str, Callable[[], nn.Module]] = {
    "none": nn.Identity,
    "softmax": partial(nn.Softmax, dim=1),
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "columns": partial(nn.Softmax, dim=0),
}


class Plain(nn.Module):
    """Two linear layers, and nothing broken but what comes after them."""

    def __init__(self, ending: Literal["none", "softmax", "sigmoid", "relu", "columns"] = "none") -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
        self.ending = ENDINGS[ending]()

    def forward(self, images: Tensor) -> Tensor:
        return self.ending(self.layers(images))


class Transposed(Plain):
    """Mixes the images of a batch by a wrong reshape."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1).T.reshape(images.shape))


class Flat(Plain):
    """Loses the dimension of the batch."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).flatten()[:10].view(1, 10)


class Blind(Plain):
    """Does not look at the images."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(torch.zeros_like(images))


class Loud(Plain):
    """Starts with huge weights in its last layer."""

    def __init__(self) -> None:
        super().__init__()
        with torch.no_grad():
            self.layers[-1].weight *= 100


class Unused(Plain):
    """Has a layer that it does not use, and one that it cuts off."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Linear(3, 3, bias=False)
        self.cut = nn.Linear(10, 10, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        scores = super().forward(images)
        return scores + self.cut(scores).detach()


class RootOfNothing(Plain):
    """The gradient of a root is infinite at 0."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) + (0 * images).mul(self.layers[1].bias[0]).sum((1, 2, 3)).sqrt()[:, None]


class Exploding(Plain):
    def forward(self, images: Tensor) -> Tensor:
        return 1e4 * super().forward(images)


class NormalizedFeatures(nn.Module):
    """Normalizes features after pooling, so that a batch of one has one value for each statistic."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)


class Leaky(Digits):
    """Trains on seven test images and a validation image."""

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        parts = super().split(targets)
        return {**parts, "train": torch.cat([parts["train"], parts["test"][:7], parts["val"][:1]])}


class CountedFromOne(Digits):
    def load(self) -> InMemoryImages:
        source = super().load()
        return InMemoryImages(source.images, source.targets + 1)

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return super().split(targets - 1)


class Rare(Digits):
    """Has few training images of the digit 3."""

    def __init__(self, left: int = 1, **arguments: Any) -> None:
        super().__init__(labels_per_class=10, batch_size=10)
        self.left = left

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        parts = super().split(targets)
        threes = (targets[parts["train"]] == 3).nonzero().flatten()
        keep = torch.ones(len(parts["train"]), dtype=torch.bool)
        keep[threes[self.left :]] = False
        return {**parts, "train": parts["train"][keep]}


class Raw(Digits):
    """Leaves the pixels as they are, from 0 to 255."""

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        images, targets = super().on_after_batch_transfer(batch, dataloader_idx)
        return images * 255, targets


class LastOfOne(Digits):
    """The last of its batches has one image."""

    def train_dataloader(self) -> DataLoader:
        return DataLoader(self.sets["train"], batch_size=33, collate_fn=lambda batch: batch)


class Forgetful(LitClassifier):
    """Gives the optimizer its first layer alone."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(list(self.network.parameters())[:1], lr=0.1)


class OtherTask(L.LightningModule):
    """Is no classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 1)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        return self.layer(batch[0].flatten(1)).square().mean()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

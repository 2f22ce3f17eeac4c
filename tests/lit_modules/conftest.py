"""Small networks, data and trainers for the tests of LightningModules."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from lit_modules import LitClassifier

CLASSES = 3


class TinyData(L.LightningDataModule):
    """Random images of three classes; 10 samples in batches of 4, so that the last batch is smaller."""

    num_classes = CLASSES

    def __init__(self, soft_targets: bool = False, size: int = 10) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(size, 1, 6, 6, generator=generator)
        self.targets = torch.randint(CLASSES, (size,), generator=generator)
        if soft_targets:
            self.targets = torch.rand(size, CLASSES, generator=generator).softmax(1)

    def train_dataloader(self) -> DataLoader:
        return DataLoader(TensorDataset(self.images, self.targets), batch_size=4)

    val_dataloader = test_dataloader = predict_dataloader = train_dataloader


@pytest.fixture
def make_data() -> Callable[..., TinyData]:
    return TinyData


@pytest.fixture
def make_network() -> Callable[..., nn.Module]:
    def make(num_classes: int = CLASSES) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, num_classes))

    return make


@pytest.fixture
def make_module(make_network: Callable[..., nn.Module]) -> Callable[..., LitClassifier]:
    def make(**changes: Any) -> LitClassifier:
        arguments = {
            "network": make_network(),
            "loss": nn.CrossEntropyLoss(),
            "optimizer": partial(torch.optim.SGD, lr=0.1),
        }
        return LitClassifier(**(arguments | changes))

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., L.Trainer]:
    def make(**changes: Any) -> L.Trainer:
        arguments = {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 1,
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": tmp_path,
        }
        return L.Trainer(**(arguments | changes))

    return make

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.trainer.connectors import data_connector
from torch import Tensor, nn
from torchvision.transforms import v2

from datamodules import BatchRandomCrop, Digits, InMemoryDataModule, InMemoryImages
from datamodules.samplers import batch_order_seed

# Lightning 2.6.6 asks torch's pytree in a way that torch 2.15 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")

Batch = tuple[Tensor, Tensor]


class Numbered(InMemoryDataModule):
    """40 training, 7 validation and 11 test images, each with its index as its target."""

    class_names = tuple(str(index) for index in range(58))
    image_shape = (2, 3, 3)

    def load(self) -> InMemoryImages:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(1, 256, (58, *self.image_shape), generator=generator, dtype=torch.uint8)
        return InMemoryImages(pixels, torch.arange(58))

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return dict(zip(("train", "val", "test"), torch.arange(58).split([40, 7, 11]), strict=True))


class Recorder(L.LightningModule):
    """A one-layer classifier that keeps every batch that it sees, by stage."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), nn.LazyLinear(58))
        self.seen: dict[str, list[Batch]] = {"train": [], "val": [], "test": [], "predict": []}
        self.epochs: list[int] = []

    def setup(self, stage: str) -> None:
        self.network(torch.zeros(1, *self.trainer.datamodule.image_shape))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["train"].append(batch)
        self.epochs.append(self.current_epoch)
        return nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["val"].append(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.seen["test"].append(batch)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        self.seen["predict"].append(batch)
        return batch[1]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def make_trainer(**arguments: Any) -> L.Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    return L.Trainer(**{"accelerator": "cpu", "max_epochs": 2, "enable_model_summary": False, **quiet, **arguments})


def fit(data: InMemoryDataModule, **arguments: Any) -> Recorder:
    model = Recorder()
    make_trainer(**arguments).fit(model, data)
    return model


def set_up(data: InMemoryDataModule, processes: int = 1, rank: int = 0) -> InMemoryDataModule:
    strategy = SimpleNamespace(root_device=torch.device("cpu"), broadcast=lambda seed: seed)
    data.trainer = SimpleNamespace(world_size=processes, global_rank=rank, strategy=strategy)
    data.setup()
    return data


def order_of(data: InMemoryDataModule, epoch: int = 0) -> list[int]:
    """Indices of the training images of one epoch, in order."""
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return [index for _, targets in loader for index in targets.tolist()]


def seeded(seed: int, **arguments: Any) -> InMemoryDataModule:
    torch.manual_seed(seed)
    return set_up(Numbered(batch_size=8, **arguments))


# --- the order of the batches


def test_the_order_does_not_depend_on_the_global_random_state() -> None:
    first = seeded(0)
    expected = [order_of(first, epoch) for epoch in range(3)]
    second = seeded(0)
    torch.manual_seed(99)
    assert [order_of(second, epoch) for epoch in range(3)] == expected


def test_reading_a_loader_draws_nothing_from_the_global_generator() -> None:
    data = seeded(0)
    before = torch.get_rng_state()
    order_of(data)
    list(data.val_dataloader())
    assert torch.equal(torch.get_rng_state(), before)


def test_each_seed_and_each_epoch_has_an_order_of_its_own() -> None:
    orders = [tuple(order_of(seeded(seed), epoch)) for seed in range(3) for epoch in range(3)]
    assert len(set(orders)) == 9


def test_neighbouring_seeds_are_far_apart_once_mixed() -> None:
    seeds = sorted(batch_order_seed(seed) for seed in range(200))
    assert min(after - before for before, after in pairwise(seeds)) > 10**9
    assert seeds[0] >= 0 and seeds[-1] < 2**63


def test_the_largest_seed_of_torch_is_accepted() -> None:
    assert len(order_of(seeded(2**64 - 1))) == 40


def test_an_epoch_sees_every_image_once() -> None:
    assert sorted(order_of(seeded(0))) == list(range(40))


def test_images_beyond_the_last_full_batch_wait_for_another_epoch() -> None:
    torch.manual_seed(0)
    data = set_up(Numbered(batch_size=12))
    orders = [order_of(data, epoch) for epoch in range(20)]
    assert all(len(order) == len(set(order)) == 36 for order in orders)
    assert set().union(*orders) == set(range(40))


@pytest.mark.parametrize(("processes", "batch_size"), [(2, 4), (3, 4), (3, 7)])
def test_processes_share_an_epoch_without_overlap(processes: int, batch_size: int) -> None:
    shares = []
    for rank in range(processes):
        torch.manual_seed(0)
        shares.append(order_of(set_up(Numbered(batch_size=batch_size), processes, rank)))
    together = [index for share in shares for index in share]
    assert len(set(together)) == len(together)
    assert {len(share) for share in shares} == {40 // processes // batch_size * batch_size}


def test_all_processes_follow_the_seed_of_the_first() -> None:
    expected, data = order_of(seeded(7)), seeded(0)
    data.trainer.strategy.broadcast = lambda seed: 7
    assert order_of(data) == expected


def test_lightning_moves_the_order_on_from_epoch_to_epoch() -> None:
    torch.manual_seed(3)
    model = fit(Numbered(batch_size=8), max_epochs=3)
    targets = torch.cat([targets for _, targets in model.seen["train"]]).view(3, 40).tolist()
    assert targets == [order_of(seeded(3), epoch) for epoch in range(3)]


def test_an_interrupted_training_goes_on_with_the_same_batches(tmp_path: Path) -> None:
    torch.manual_seed(5)
    straight = fit(Numbered(batch_size=8), max_epochs=4)
    torch.manual_seed(5)
    data, trainer = Numbered(batch_size=8), make_trainer(max_epochs=2)
    trainer.fit(Recorder(), data)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    torch.manual_seed(5)
    resumed = Recorder()
    make_trainer(max_epochs=4).fit(resumed, Numbered(batch_size=8), ckpt_path=tmp_path / "last.ckpt")
    expected = [targets.tolist() for _, targets in straight.seen["train"][10:]]
    assert [targets.tolist() for _, targets in resumed.seen["train"]] == expected


# --- evaluation


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize(("name", "indices"), [("val", range(40, 47)), ("test", range(47, 58))])
def test_evaluation_counts_every_image_once_on_any_number_of_processes(
    name: str, indices: range, processes: int
) -> None:
    seen = []
    for rank in range(processes):
        data = set_up(Numbered(eval_batch_size=2), processes, rank)
        seen += [index for _, targets in getattr(data, f"{name}_dataloader")() for index in targets.tolist()]
    assert sorted(seen) == list(indices)


def test_two_real_processes_train_and_evaluate_every_image_once() -> None:
    script = Path(__file__).parent / "two_processes.py"
    result = subprocess.run(
        [sys.executable, script], check=False, capture_output=True, text=True, cwd=script.parents[2], timeout=120
    )
    assert result.returncode == 0, result.stderr
    assert "every image once" in result.stdout


def test_fewer_images_than_processes_are_refused() -> None:
    with pytest.raises(ValueError, match="7 val images do not give one to each of 8 processes"):
        set_up(Numbered(), processes=8).val_dataloader()


# --- what the model sees


class Fill(nn.Module):
    """Replace every pixel by one value, and remember what the images were."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.got: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.got.append(images)
        return torch.full_like(images, self.value)


class Relabel(nn.Module):
    """Stand in for a mix: images and targets become one value."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value
        self.got: list[Tensor] = []

    def forward(self, images: Tensor, targets: Tensor) -> Batch:
        self.got.append(images)
        return torch.full_like(images, self.value), torch.full((len(images), 58), self.value)


def test_without_options_the_model_sees_the_stored_images_as_floats_up_to_one() -> None:
    model = fit(Numbered(batch_size=8), max_epochs=1)
    source = Numbered().load().images / 255
    for images, targets in model.seen["train"] + model.seen["val"]:
        assert images.dtype == torch.float32
        assert torch.equal(images, source[targets])


def test_only_training_images_are_transformed_and_mixed() -> None:
    model = fit(Numbered(batch_size=8, transforms=[Fill(0.0)], mixes=[Relabel(0.5)]))
    source = Numbered().load().images / 255
    assert all((images == 0.5).all() and (targets == 0.5).all() for images, targets in model.seen["train"])
    assert all(torch.equal(images, source[targets]) for images, targets in model.seen["val"])
    assert sum(len(targets) for _, targets in model.seen["val"]) == 3 * 7 - 7 + 7  # sanity check and two epochs


def test_transforms_come_before_normalization_and_mixes_after_it() -> None:
    transform, mix = Fill(0.25), Relabel(0.5)
    data = Numbered(batch_size=40, transforms=[transform], mixes=[mix], normalize=True)
    fit(data, max_epochs=1)
    images = data.sets["train"].images / 255
    mean, sd = images.mean((0, 2, 3)), images.std((0, 2, 3), correction=0)
    assert transform.got[0].min() > 0 and transform.got[0].max() == images.max()
    torch.testing.assert_close(mix.got[0][0, :, 0, 0], (0.25 - mean) / sd)


def test_transforms_run_in_the_order_given() -> None:
    first, second = Fill(0.25), Fill(0.75)
    model = fit(Numbered(batch_size=40, transforms=[first, second]), max_epochs=1)
    assert (second.got[0] == 0.25).all()
    assert (model.seen["train"][0][0] == 0.75).all()


class Reverse(nn.Module):
    """Reverses the rows and keeps what it got."""

    def __init__(self, moves_pixels: bool) -> None:
        super().__init__()
        self.moves_pixels, self.got = moves_pixels, []

    def forward(self, images: Tensor) -> Tensor:
        self.got.append(images)
        return images.flip(-2)


def test_the_first_transforms_that_only_move_pixels_get_bytes_and_make_the_same_images() -> None:
    made = []
    for moves in (True, False):
        steps = [Reverse(moves), BatchRandomCrop(padding=1), Reverse(False), Reverse(True)]
        torch.manual_seed(0)
        model = fit(Numbered(batch_size=40, transforms=steps), max_epochs=1)
        made.append(model.seen["train"][0])
        expected = [torch.uint8 if moves else torch.float32, torch.float32, torch.float32]
        assert [step.got[0].dtype for step in steps if isinstance(step, Reverse)] == expected
    assert torch.equal(made[0][0], made[1][0]) and torch.equal(made[0][1], made[1][1])
    assert made[0][0].dtype == torch.float32


def test_normalized_training_images_have_mean_zero_and_sd_one() -> None:
    model = fit(Numbered(batch_size=40, normalize=True), max_epochs=1)
    images = model.seen["train"][0][0].double()
    torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(2).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(images.std((0, 2, 3), correction=0), torch.ones(2).double(), rtol=1e-6, atol=0)


def test_validation_images_are_normalized_by_the_training_images() -> None:
    data = Numbered(batch_size=40, normalize=True)
    images, targets = fit(data, max_epochs=1).seen["val"][-1]
    stored = data.sets["train"].images / 255
    mean, sd = stored.mean((0, 2, 3)), stored.std((0, 2, 3), correction=0)
    expected = (data.load().images[targets] / 255 - mean[:, None, None]) / sd[:, None, None]
    torch.testing.assert_close(images, expected)


def test_each_batch_passes_through_one_mix_picked_at_random() -> None:
    torch.manual_seed(0)
    model = fit(Numbered(batch_size=4, mixes=[Relabel(0.0), Relabel(1.0)]), max_epochs=10)
    picks = torch.stack([targets[0, 0] for _, targets in model.seen["train"]])
    assert len(picks) == 100
    assert 30 < picks.sum() < 70


@pytest.mark.parametrize("mix_off_epochs", [0, 1, 3, 4])
def test_mixes_are_off_in_the_last_epochs(mix_off_epochs: int) -> None:
    model = fit(Numbered(batch_size=8, mixes=[Relabel(0.5)], mix_off_epochs=mix_off_epochs), max_epochs=3)
    mixed = [targets.ndim == 2 for _, targets in model.seen["train"]]
    assert mixed == [epoch < 3 - mix_off_epochs for epoch in model.epochs]


def test_mixes_of_torchvision_fit_as_they_are() -> None:
    mixes = [v2.MixUp(alpha=0.2, num_classes=58), v2.CutMix(num_classes=58)]
    model = fit(Numbered(batch_size=8, mixes=mixes))
    for _, targets in model.seen["train"]:
        assert targets.shape == (8, 58)
        torch.testing.assert_close(targets.sum(1), torch.ones(8))


def test_images_take_the_dtype_of_the_precision() -> None:
    model = fit(Numbered(batch_size=8), precision="64-true")
    assert model.seen["train"][0][0].dtype == torch.float64


def test_without_a_trainer_batches_are_prepared_as_for_evaluation() -> None:
    data = Numbered(transforms=[Fill(0.0)], mixes=[Relabel(0.5)])
    data.setup()
    images, targets = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert torch.equal(images, data.sets["val"].images / 255)
    assert targets.tolist() == list(range(40, 47))


# --- under the trainer and in YAML


def test_all_stages_of_a_trainer_run_without_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    # With cores to spare, Lightning advises to add workers.
    monkeypatch.setattr(data_connector, "suggested_max_num_workers", lambda devices: 8)
    model, trainer, data = Recorder(), make_trainer(), Digits(batch_size=25, transforms=[BatchRandomCrop(padding=1)])
    trainer.fit(model, data)
    trainer.validate(model, data, verbose=False)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data, return_predictions=False)
    sizes = {stage: sum(len(targets) for _, targets in batches) for stage, batches in model.seen.items()}
    assert sizes == {"train": 200, "val": 4 * 200, "test": 1000, "predict": 1000}


def test_images_are_loaded_once_for_all_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    loads, load = [], Numbered.load
    monkeypatch.setattr(Numbered, "load", lambda self: loads.append(self) or load(self))
    model, trainer, data = Recorder(), make_trainer(), Numbered(batch_size=8)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    assert loads == [data]


def test_a_data_module_is_built_from_yaml_with_lists_that_can_be_appended_to() -> None:
    parser = ArgumentParser()
    parser.add_subclass_arguments(L.LightningDataModule, "data")
    resolved = parser.parse_object({"data": {"class_path": "datamodules.Digits"}}).as_dict()
    arguments = resolved["data"]["init_args"]
    assert arguments["transforms"] == [] and arguments["mixes"] == []
    crop = {"class_path": "datamodules.BatchRandomCrop", "init_args": {"padding": 1}}
    erasing = {"class_path": "datamodules.BatchRandomErasing", "init_args": {"scale": [0.02, 0.2]}}
    mix = {"class_path": "torchvision.transforms.v2.MixUp", "init_args": {"alpha": 0.2, "num_classes": 10}}
    arguments["transforms"] += [crop, erasing]
    arguments["mixes"].append(mix)
    config = parser.parse_string(parser.dump(parser.parse_object(resolved)))
    data = parser.instantiate(config).data
    assert [type(module).__name__ for module in data.transforms] == ["BatchRandomCrop", "BatchRandomErasing"]
    assert data.transforms[1].scale == (0.02, 0.2)
    assert data.mixes[0].num_classes == 10


# --- the fingerprint


def test_the_fingerprint_is_that_of_the_data_and_not_of_their_use() -> None:
    expected = Digits().fingerprint()
    assert len(expected) == 64
    assert Digits(labels_per_class=20, split_seed=4, batch_size=10, normalize=True).fingerprint() == expected
    assert Numbered().fingerprint() != expected


@pytest.mark.parametrize("part", ["images", "targets"])
def test_one_changed_value_changes_the_fingerprint(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected, changed = Numbered().fingerprint(), Numbered().load()
    getattr(changed, part).view(-1)[-1] -= 1
    monkeypatch.setattr(Numbered, "load", lambda self: changed)
    assert Numbered().fingerprint() != expected


def test_images_of_another_shape_have_another_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, source = Numbered().fingerprint(), Numbered().load()
    monkeypatch.setattr(Numbered, "load", lambda self: InMemoryImages(source.images.view(58, 1, 6, 3), source.targets))
    assert Numbered().fingerprint() != expected


def test_the_fingerprint_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Numbered()
    expected = data.fingerprint()
    monkeypatch.setattr(Numbered, "load", lambda self: pytest.fail("loaded again"))
    assert data.fingerprint() == expected


# --- mistakes


def test_all_sizes_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"batch_size=0 must be at least 1; eval_.*=0 .*; mix_off_epochs=-1 .*0"):
        Numbered(batch_size=0, eval_batch_size=0, mix_off_epochs=-1)


@pytest.mark.parametrize(("batch_size", "processes", "most"), [(41, 1, 40), (21, 2, 20)])
def test_a_training_set_smaller_than_a_batch_is_refused(batch_size: int, processes: int, most: int) -> None:
    data = set_up(Numbered(batch_size=batch_size), processes)
    with pytest.raises(
        ValueError, match=f"40 training images .*batch_size={batch_size} .*Set batch_size to at most {most}"
    ):
        data.train_dataloader()


def test_mixing_off_at_the_end_needs_a_known_end() -> None:
    with pytest.raises(ValueError, match=r"mix_off_epochs=2 counts back .*max_epochs=-1"):
        fit(Numbered(batch_size=8, mix_off_epochs=2), max_epochs=-1, max_steps=3)


def test_normalizing_a_constant_channel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Numbered().load()
    source.images[:40, 1] = 7
    monkeypatch.setattr(Numbered, "load", lambda self: source)
    with pytest.raises(ValueError, match=r"do not vary in channel\(s\) \[1\]"):
        Numbered(normalize=True).setup()

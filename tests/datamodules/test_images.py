import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.images import InMemoryImages, channel_statistics


def make_images(count: int = 6) -> InMemoryImages:
    pixels = torch.arange(count * 2 * 3 * 3).remainder(256).to(torch.uint8)
    return InMemoryImages(pixels.view(count, 2, 3, 3), torch.arange(count))


def test_a_batch_holds_the_single_items_in_the_order_asked_for() -> None:
    data = make_images()
    images, targets = data.__getitems__([4, 0, 4])
    assert torch.equal(images, torch.stack([data[index][0] for index in (4, 0, 4)]))
    assert targets.tolist() == [4, 0, 4]


def test_a_data_loader_reads_a_batch_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[int]] = []
    read = InMemoryImages.__getitems__
    monkeypatch.setattr(InMemoryImages, "__getitems__", lambda self, rows: calls.append(rows) or read(self, rows))
    list(DataLoader(make_images(), batch_size=4, collate_fn=lambda batch: batch))
    assert calls == [[0, 1, 2, 3], [4, 5]]


def test_a_subset_holds_the_chosen_images_and_targets() -> None:
    data = make_images()
    subset = data.subset(torch.tensor([5, 2]))
    assert len(subset) == 2
    assert torch.equal(subset.images, data.images[[5, 2]])
    assert subset.targets.tolist() == [5, 2]


def test_channel_statistics_are_those_of_the_float_images() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (50, 3, 4, 5), dtype=torch.uint8)
    images[:, 1] //= 4
    scaled = images.double() / 255
    mean, sd = channel_statistics(images)
    assert mean.shape == sd.shape == (3, 1, 1)
    torch.testing.assert_close(mean.flatten().double(), scaled.mean((0, 2, 3)), rtol=1e-6, atol=0)
    torch.testing.assert_close(sd.flatten().double(), scaled.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)


@pytest.mark.parametrize("images", [torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3, dtype=torch.uint8)])
def test_images_of_another_dtype_or_shape_are_refused(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"images must be uint8 \(N, C, H, W\), got torch\."):
        InMemoryImages(images, torch.zeros(2, dtype=torch.int64))


@pytest.mark.parametrize("targets", [torch.zeros(2), torch.zeros(3, dtype=torch.int64), torch.zeros(2, 1).long()])
def test_targets_of_another_dtype_shape_or_length_are_refused(targets: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"targets must be int64 \(2,\), one for each image, got torch\."):
        InMemoryImages(torch.zeros(2, 1, 3, 3, dtype=torch.uint8), targets)

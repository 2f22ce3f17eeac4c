"""Training images made of several: pixels and boxes against naive loops."""

import lightning as L
import pytest
import torch

from datamodules import DetectionMixUp, DigitScenes, Mosaic

SIZE = 32


def make_batch(count=4, most=3):
    """Images of noise, each with 0 to 3 boxes of its own, and one crowd."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, SIZE, SIZE, generator=generator)
    corners = torch.rand(count, most, 2, generator=generator) * 16
    boxes = torch.cat([corners, corners + 4 + 10 * torch.rand(count, most, 2, generator=generator)], -1)
    labels = torch.randint(10, (count, most), generator=generator)
    there = torch.arange(most) < torch.arange(count)[:, None]
    flags = torch.zeros(count, most, dtype=torch.bool)
    crowd = flags.clone()
    crowd[3, 1] = True
    targets = {"boxes": boxes * there[..., None], "labels": labels.where(there, -1), "difficult": flags, "crowd": crowd}
    return images, targets | {"frames": torch.tensor([[1.0, 1, 0, 0]] * count)}


def listed(targets, image):
    """The real boxes of an image as tuples."""
    names = [name for name in ("labels", "crowd", "weights") if name in targets]
    real = targets["labels"][image] >= 0
    return [
        (tuple(round(edge, 3) for edge in box), *(round(float(targets[name][image][real][place]), 4) for name in names))
        for place, box in enumerate(targets["boxes"][image][real].tolist())
    ]


def test_blended_images_are_weighted_sums_and_have_the_boxes_of_both():
    images, targets = make_batch()
    order, share = torch.tensor([2, 0, 3, 1]), torch.tensor([0.5, 1.0, 0.25, 0.75])
    mixed, blended = DetectionMixUp().blend(images, targets, order, share)
    for image in range(4):
        other, own = int(order[image]), float(share[image])
        assert torch.allclose(mixed[image], own * images[image] + (1 - own) * images[other])
        expected = [(*entry, round(own, 4)) for entry in listed(targets, image)]
        expected += [(*entry, round(1 - own, 4)) for entry in listed(targets, other)]
        assert listed(blended, image) == expected


def test_shares_are_drawn_from_beta():
    torch.manual_seed(0)
    images, targets = make_batch()
    many = {name: part.repeat(500, *(1 for _ in part.shape[1:])) for name, part in targets.items()}
    _, blended = DetectionMixUp(alpha=1.5)(images[:, :, :1, :1].repeat(500, 1, 1, 1), many)
    share = blended["weights"][1::4, 0]  # of an image with a box
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert share.var().item() == pytest.approx(1 / 16, abs=0.01)  # 1 / (4 (2 alpha + 1))


def mosaic_by_loops(images, targets, sources, centers, least_visible):
    """Whole images at scale 1: a quadrant shows the part of its image that borders on the centre's corner."""
    mixed, kept = torch.empty_like(images), []
    for image in range(len(images)):
        x, y = (round(float(share) * SIZE) for share in centers[image])
        kept.append([])
        for quadrant in range(4):
            source = int(sources[image, quadrant])
            left, top = (0 if quadrant % 2 == 0 else x), (0 if quadrant < 2 else y)
            right, bottom = (x if quadrant % 2 == 0 else SIZE), (y if quadrant < 2 else SIZE)
            dx, dy = (x - SIZE if quadrant % 2 == 0 else x), (y - SIZE if quadrant < 2 else y)
            mixed[image, :, top:bottom, left:right] = images[source, :, top - dy : bottom - dy, left - dx : right - dx]
            for box, *rest in listed(targets, source):
                x0, y0, x1, y1 = (edge + shift for edge, shift in zip(box, (dx, dy, dx, dy), strict=True))
                cut = (max(x0, left), max(y0, top), min(x1, right), min(y1, bottom))
                width, height = cut[2] - cut[0], cut[3] - cut[1]
                if width >= 1 and height >= 1 and width * height >= least_visible * (x1 - x0) * (y1 - y0):
                    kept[-1].append((tuple(round(edge, 3) for edge in cut), *rest))
    return mixed, kept


def test_a_mosaic_at_full_scale_is_four_crops_with_their_boxes():
    images, targets = make_batch()
    sources = torch.tensor([[0, 1, 2, 3], [1, 3, 3, 2], [2, 2, 0, 1], [3, 2, 3, 3]])
    centers = torch.tensor([[0.5, 0.5], [0.25, 0.7], [0.6, 0.3], [0.4, 0.75]])
    mixed, moved = Mosaic(least_visible=0.3).compose(images, targets, sources, centers, torch.ones(4, 4))
    expected, boxes = mosaic_by_loops(images, targets, sources, centers, 0.3)
    assert torch.allclose(mixed, expected, atol=1e-5)
    for image in range(4):
        for (box, *rest), (wanted, *others) in zip(listed(moved, image), boxes[image], strict=True):
            assert box == pytest.approx(wanted, abs=2e-3)
            assert rest == others
    assert 0 < sum(map(len, boxes)) < 4 * 6


def test_boxes_of_a_scaled_mosaic_stay_on_their_objects():
    torch.manual_seed(0)
    images, boxes = torch.zeros(6, 3, 64, 64), torch.zeros(6, 1, 4)
    for image in range(6):
        left, top = 8 + 4 * image, 30 - 4 * image
        images[image, :, top : top + 20, left : left + 16] = 1
        boxes[image, 0] = torch.tensor([left, top, left + 16, top + 20])
    targets = {"boxes": boxes, "labels": torch.zeros(6, 1, dtype=torch.int64)}
    seen = 0
    for _ in range(5):
        mixed, moved = Mosaic(least_visible=0.0)(images, targets)
        for image, there, found in zip(mixed, moved["labels"] >= 0, moved["boxes"], strict=True):
            bright = image[0] > 0.75
            left_over = bright.clone()
            for left, top, right, bottom in found[there].round().int().tolist():
                seen += 1
                assert bright[top:bottom, left:right].float().mean() > 0.6  # edges are rounded to pixels
                left_over[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
            assert left_over.sum() <= 4 * 64  # no object without its box, but for slivers below a pixel
    assert seen > 60


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DetectionMixUp(alpha=0), r"DetectionMixUp: alpha is 0; it must be above 0"),
        (lambda: Mosaic(smallest_scale=0), r"Mosaic: smallest_scale is 0; it must be above 0 and at most 1"),
        (lambda: Mosaic(margin=0.6), r"Mosaic: margin is 0\.6; it must be from 0 to 0\.5"),
        (lambda: Mosaic(least_visible=2), r"Mosaic: least_visible is 2; it must be from 0 to 1"),
        (lambda: DigitScenes(mix_off_epochs=-1), r"DigitScenes: mix_off_epochs=-1 must be at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


class Recorder(L.LightningModule):
    """Notes by epoch whether boxes had weights, and whether those of validation had."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.mixed, self.validated = [], []

    def training_step(self, batch, batch_idx):
        self.mixed.append("weights" in batch[1])
        return self.weight * 0

    def validation_step(self, batch, batch_idx):
        self.validated.append("weights" in batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(data, **arguments):
    module = Recorder()
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    L.Trainer(**quiet, accelerator="cpu", num_sanity_val_steps=0, **arguments).fit(module, data)
    return module


def scenes(**arguments):
    small = {"train_scenes": 4, "val_scenes": 2, "test_scenes": 2, "input_size": 64, "batch_size": 4}
    return DigitScenes(**small, mixes=[DetectionMixUp()], **arguments)


def test_mixes_are_for_training_alone_and_end_before_it_does():
    module = fit(scenes(mix_off_epochs=2), max_epochs=5)
    assert module.mixed == [True, True, True, False, False]
    assert module.validated == [False] * 5


def test_an_end_without_mixes_needs_a_known_end():
    with pytest.raises(ValueError, match=r"mix_off_epochs=2 counts back from the last epoch, but the trainer has no"):
        fit(scenes(mix_off_epochs=2), max_epochs=-1, max_steps=2)

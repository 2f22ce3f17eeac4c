"""Scenes of digits, and what holds for all detection data."""

import lightning as L
import pytest
import torch
from torchvision.ops import box_iou

from datamodules.detection import DigitScenes
from datamodules.samplers import batch_order_seed

SMALL = {"train_scenes": 12, "val_scenes": 3, "test_scenes": 5, "batch_size": 4}


def make(**arguments) -> DigitScenes:
    data = DigitScenes(**SMALL | arguments)
    data.setup()
    return data


def test_scenes_have_any_number_of_digits_up_to_the_most():
    counts = make(train_scenes=200, most_digits=3).sets["train"].source.starts.diff()
    assert counts.unique().tolist() == [0, 1, 2, 3]


def test_digits_lie_inside_and_overlap_none():
    source = make(train_scenes=50).sets["train"].source
    assert bool((source.boxes >= 0).all()) and bool((source.boxes <= 96).all())
    for index in range(50):
        boxes = source.boxes_of(index)["boxes"]
        assert torch.equal(box_iou(boxes, boxes).count_nonzero(), torch.tensor(len(boxes)))


def test_a_box_holds_exactly_the_pixels_with_ink():
    """With and without its last digit, a scene differs in that digit's box, and up to all four of its edges."""
    data = DigitScenes(**SMALL)
    place, drawn = data._place, []

    def watch(random, canvas, ink, taken):
        before = canvas.copy()
        box = place(random, canvas, ink, taken)
        if box is not None:
            changed = torch.from_numpy(canvas != before).any(0)
            rows, columns = changed.any(1).nonzero().flatten(), changed.any(0).nonzero().flatten()
            drawn.append([columns[0].item(), rows[0].item(), columns[-1].item() + 1, rows[-1].item() + 1])
        return box

    data._place = watch
    parts = data.read_parts()
    assert torch.cat([part.boxes for part in parts.values()]).tolist() == drawn
    assert len(drawn) > 20


def test_scenes_repeat_by_seed():
    first, again, other = (make(scene_seed=seed).fingerprint() for seed in (1, 1, 2))
    assert first == again != other


def test_no_digit_is_in_two_parts(monkeypatch):
    seen = []
    make_part = DigitScenes._make_part
    monkeypatch.setattr(
        DigitScenes,
        "_make_part",
        lambda self, random, count, ink, labels: seen.append(ink) or make_part(self, random, count, ink, labels),
    )
    make()
    assert [len(ink) for ink in seen] == [1078, 360, 359]


def test_batches_are_full_and_follow_from_the_seed():
    torch.manual_seed(3)
    first = make()
    order = list(first.train_dataloader().sampler)
    assert len(first.train_dataloader()) == 3
    torch.rand(5)
    torch.manual_seed(3)
    assert list(make().train_dataloader().sampler) == order
    torch.manual_seed(4)
    assert list(make().train_dataloader().sampler) != order
    assert order[0].seed == batch_order_seed(3)


def test_a_trainer_gets_float_images_and_every_test_image_once():
    class Watch(L.LightningModule):
        def __init__(self):
            super().__init__()
            self.seen = []

        def test_step(self, batch, batch_idx):
            self.seen.append(batch)

    module, data = Watch(), DigitScenes(**SMALL, eval_batch_size=2)
    trainer = L.Trainer(
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        accelerator="cpu",
    )
    trainer.test(module, data, verbose=False)
    images = torch.cat([images for images, _ in module.seen])
    assert images.dtype == torch.float32
    torch.testing.assert_close(images, data.sets["test"].source.images / 255)


def test_normalized_training_images_have_mean_0_and_deviation_1():
    data = make(normalize=True)
    everything = data.sets["train"].__getitems__(range(12))
    images, _ = data.on_after_batch_transfer(everything, 0)
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=1e-4)
    assert images.var((0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 3, abs=1e-3)


def test_sizes_of_boxes_are_in_pixels_of_the_input():
    data = make()
    boxes = data.sets["train"].source.boxes
    assert torch.equal(data.box_sizes(), boxes[:, 2:] - boxes[:, :2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_size": 100}, "input_size=100 must be a multiple of 32"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"eval_batch_size": 0}, "eval_batch_size=0 must be at least 1"),
        ({"num_workers": -1}, "num_workers=-1 must be at least 0"),
        ({"train_scenes": 0}, "train_scenes=0 must be at least 1"),
        ({"most_digits": 0}, "most_digits=0 must be at least 1"),
        ({"smallest_digit": 50}, "smallest_digit=50 and largest_digit=36 must be in order"),
        ({"scene_seed": -1}, "scene_seed=-1 must be from 0"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DigitScenes(**arguments)


def test_too_few_images_for_a_batch_are_refused():
    with pytest.raises(ValueError, match=r"12 training images do not fill one batch of batch_size=13"):
        make(batch_size=13).train_dataloader()

"""Retrieval data: labels, roles, and what is refused before training."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules import DigitsRetrieval, InMemoryImages, RetrievalDataModule
from datamodules.retrieval import draw_queries
from datamodules.retrieval_file_names import read_person_and_camera
from tests.helpers.one_weight import make_trainer


class Small(RetrievalDataModule):
    """Image i is of level i. Identities 40, 20 and 30 are trained on, 50 and 60 tested."""

    image_shape = (1, 1, 1)
    identities = torch.tensor([40, 40, 20, 20, 30, 30, 10, 50, 50, 60, 60, 20])

    def __init__(self, cameras: Tensor | None = None, **parts: list[int]) -> None:
        super().__init__(identities_per_batch=3, images_per_identity=2)
        self.given_cameras = cameras
        self.parts = {
            "train": [0, 1, 2, 3, 4, 5],
            "val_query": [2, 11],
            "val_gallery": [2, 3, 4, 11],
            "test_query": [7, 9],
            "test_gallery": [8, 10],
            **parts,
        }

    def load(self) -> InMemoryImages:
        return InMemoryImages(torch.arange(12).to(torch.uint8).view(12, 1, 1, 1), self.identities)

    def split(self, targets: Tensor) -> dict[str, Tensor]:
        return {name: torch.tensor(indices) for name, indices in self.parts.items()}

    def cameras(self, identities: Tensor) -> Tensor:
        return super().cameras(identities) if self.given_cameras is None else self.given_cameras

    def name_identities(self, identities: list[int]) -> tuple[str, ...]:
        return tuple(f"person {identity}" for identity in identities)


def set_up(data: RetrievalDataModule) -> RetrievalDataModule:
    data.setup()
    return data


def test_training_identities_become_labels_in_their_order() -> None:
    data = set_up(Small())
    assert data.class_names == ("person 20", "person 30", "person 40")
    assert data.num_classes == 3
    assert data.sets["train"].targets.tolist() == [2, 2, 0, 0, 1, 1]


def test_evaluation_batches_say_identity_camera_and_role() -> None:
    cameras = torch.arange(12) + 100
    ((images, targets),) = set_up(Small(cameras)).val_dataloader()
    assert images.flatten().tolist() == [2, 3, 4, 11]
    assert targets.tolist() == [[20, 102, 3], [20, 103, 2], [30, 104, 2], [20, 111, 3]]
    ((images, targets),) = set_up(Small()).test_dataloader()
    assert images.flatten().tolist() == [7, 8, 9, 10]
    assert targets.tolist() == [[50, -1, 1], [50, -1, 2], [60, -1, 1], [60, -1, 2]]


def test_training_batches_are_p_identities_with_k_images() -> None:
    ((images, labels),) = set_up(Small()).train_dataloader()
    assert labels.bincount().tolist() == [2, 2, 2]
    assert images.flatten().sort().values.tolist() == [0, 1, 2, 3, 4, 5]


def test_an_image_alone_is_read_as_in_a_batch() -> None:
    entries = set_up(Small()).sets["test"]
    image, target = entries[2]
    assert image.item() == 9 and target.tolist() == [60, -1, 1] and len(entries) == 4


@pytest.mark.parametrize(
    "data, text",
    [
        (
            Small(test_gallery=[8, 10, 11, 0]),
            "2 identities are both in training or validation and in the test: 'person 20', 'person 40'",
        ),
        (Small(test_gallery=[8], test_query=[9, 10]), "none of 2 test queries has an image of its identity"),
        (Small(val_query=[2], val_gallery=[2, 4]), "none of 1 val queries has an image of its identity"),
        (Small(torch.zeros(12, dtype=torch.int64)), "from another camera where cameras are known"),
    ],
)
def test_parts_that_cannot_be_scored_are_refused_at_set_up(data: Small, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        data.setup()


@pytest.mark.parametrize("arguments", [{"identities_per_batch": 0}, {"images_per_identity": 0}])
def test_batches_of_nothing_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DigitsRetrieval(**arguments)


def test_a_batch_of_another_composition_is_refused_before_the_first_step() -> None:
    data = set_up(Small())
    data.trainer = make_trainer()
    data.trainer.training = True
    batch = (torch.zeros(6, 1), torch.tensor([0, 0, 0, 1, 1, 2]))
    with pytest.raises(RuntimeError, match="has 3 identities with 1 to 3 images each, but 3 with 2 each"):
        data.on_before_batch_transfer(batch, 0)
    good = (torch.zeros(6, 1), torch.tensor([0, 2, 2, 1, 0, 1]))
    assert data.on_before_batch_transfer(good, 0) is good
    assert data.on_before_batch_transfer(batch, 0) is batch  # the first has been right


def test_queries_are_drawn_from_each_identity_and_leave_it_one_image() -> None:
    identities = torch.tensor([0] * 5 + [1] * 2 + [2] * 3 + [9] * 4)
    candidates = torch.arange(10)
    for seed in range(5):
        chosen = draw_queries(identities, candidates, 2, torch.Generator().manual_seed(seed))
        assert identities[candidates[chosen]].bincount().tolist() == [2, 1, 2]


# --- digits


def digits(**arguments: Any) -> DigitsRetrieval:
    data = DigitsRetrieval(**arguments)
    data.setup()
    return data


def test_digits_are_trained_on_0_to_4_and_searched_for_among_5_to_9() -> None:
    data = digits()
    assert data.class_names == ("0", "1", "2", "3", "4")
    assert data.sets["train"].targets.bincount().tolist() == [40] * 5
    identities, cameras, roles = data.sets["test"].targets.unbind(1)
    assert identities[roles == 1].bincount().tolist() == [0] * 5 + [20] * 5
    assert (roles == 2).sum() == 796 and set(identities[roles == 2].tolist()) == {5, 6, 7, 8, 9}
    assert (cameras == -1).all()
    val, _, roles = data.sets["val"].targets.unbind(1)
    assert val.bincount().tolist() == [20] * 5 and (roles == 3).all()


def test_no_digit_image_is_in_two_parts() -> None:
    data = DigitsRetrieval(labels_per_class=157)
    parts = data.split(data.load().targets)
    del parts["val_gallery"]
    indices = torch.cat(list(parts.values()))
    assert len(indices.unique()) == len(indices) == 5 * 157 + 100 + 896


def test_more_digit_images_add_to_the_fewer_and_change_no_other_part() -> None:
    targets = DigitsRetrieval().load().targets
    few, many = (DigitsRetrieval(labels_per_class=count).split(targets) for count in (5, 50))
    assert set(few["train"].tolist()) < set(many["train"].tolist())
    assert all(torch.equal(few[name], many[name]) for name in few if name != "train")


def test_another_split_seed_draws_other_digit_queries() -> None:
    targets = DigitsRetrieval().load().targets
    first, second = (DigitsRetrieval(split_seed=seed).split(targets)["test_query"] for seed in (0, 1))
    assert set(first.tolist()) != set(second.tolist())


@pytest.mark.parametrize("arguments", [{"labels_per_class": 158}, {"labels_per_class": 0}, {"split_seed": -1}])
def test_digit_settings_out_of_range_are_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        DigitsRetrieval(**arguments)


# --- file names


def test_persons_and_cameras_are_read_from_names_of_market_and_duke() -> None:
    names = ["0002_c1s1_000451_03.jpg", "query/-1_c3s2_0_00.jpg", "0000_c6s4_002427_05.jpg", "7140_c8_f0046985.jpg"]
    persons, cameras = read_person_and_camera(names)
    assert persons.tolist() == [2, -1, 0, 7140]
    assert cameras.tolist() == [1, 3, 6, 8]


def test_the_first_five_names_that_do_not_parse_are_named() -> None:
    names = ["0002_c1s1_000451_03.jpg", *(f"cat{number}.jpg" for number in range(7))]
    with pytest.raises(ValueError, match=r"7 of 8 file names .*'cat0.jpg', .*'cat4.jpg' and 2 more") as caught:
        read_person_and_camera(names)
    assert "cat5" not in str(caught.value)

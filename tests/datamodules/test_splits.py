import pytest
import torch

from datamodules.splits import SplitSizes, first_share, mixed_order, split_images

TARGETS = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
ALL = {"train": torch.arange(100)}


def split(given: dict[str, torch.Tensor] | None = None, **sizes: object) -> tuple[dict[str, set[int]], set[int]]:
    parts, rest = split_images(TARGETS, given or ALL, SplitSizes(**{"val": 10, "test": 20, **sizes}))
    return {name: set(part.tolist()) for name, part in parts.items()}, set(rest.tolist())


def test_every_stretch_of_the_order_holds_the_classes_in_their_shares() -> None:
    order = mixed_order(TARGETS, 3)
    assert sorted(order.tolist()) == list(range(100))
    for start in range(0, 100, 10):
        counts = TARGETS[order[start : start + 10]].bincount(minlength=3)
        assert (counts - torch.tensor([6, 3, 1])).abs().max() <= 1


def test_the_order_is_the_same_in_every_process_on_every_machine() -> None:
    """Written down once."""
    assert mixed_order(torch.tensor([0, 1, 0, 1, 2, 0, 0, 1]), 7).tolist() == [2, 3, 5, 1, 4, 0, 7, 6]


def test_parts_have_the_sizes_asked_for_and_share_no_image() -> None:
    parts, rest = split(train=50)
    assert {name: len(part) for name, part in parts.items()} == {"train": 50, "val": 10, "test": 20}
    assert len(rest) == 20
    assert set().union(*parts.values(), rest) == set(range(100))


def test_shares_are_of_all_images() -> None:
    parts, rest = split(val=0.1, test=0.25)
    assert {name: len(part) for name, part in parts.items()} == {"train": 65, "val": 10, "test": 25} and not rest


def test_more_training_images_add_and_replace_none_and_leave_the_others() -> None:
    few, many = split(train=20)[0], split(train=41)[0]
    assert few["train"] < many["train"]
    assert (few["val"], few["test"]) == (many["val"], many["test"])


def test_labels_per_class_nest_too() -> None:
    few, many = split(train_per_class=2)[0]["train"], split(train_per_class=6)[0]["train"]
    assert TARGETS[list(few)].bincount().tolist() == [2, 2, 2] and TARGETS[list(many)].bincount().tolist() == [6] * 3
    assert few < many


def test_a_part_that_is_given_stays_as_it_is() -> None:
    given = {"train": torch.arange(80), "test": torch.arange(80, 100)}
    parts, _ = split(given)
    assert parts["test"] == set(range(80, 100)) and parts["train"] | parts["val"] == set(range(80))


def test_another_seed_gives_another_split() -> None:
    assert split(seed=0)[0]["test"] != split(seed=1)[0]["test"]


def test_the_first_share_of_each_class_is_rounded_up() -> None:
    targets = torch.tensor([1, 0, 0, 1, 0, 0, 2, 0])
    assert first_share(targets, 0.4).nonzero().flatten().tolist() == [0, 1, 2, 6]
    assert first_share(targets, 1.0).all()


def test_shares_are_not_rounded_up_by_the_last_digit_of_a_float() -> None:
    assert int(first_share(torch.zeros(100, dtype=torch.int64), 0.07).sum()) == 7  # 0.07 * 100 > 7


def test_all_sizes_out_of_range_are_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"val_size=1\.5 must .*; test_size=-1 must .*; train_size=0 must .* least 1"):
        SplitSizes(val=1.5, test=-1, train=0)
    with pytest.raises(ValueError, match=r"train_size=5 and labels_per_class=2 exclude .*; split_seed=-1 must be from"):
        SplitSizes(val=1, train=5, train_per_class=2, seed=-1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test": 100}, "test_size=100 leaves no training image of 100"),
        ({"val": 80}, "val_size=80 leaves no training image of 80"),
        ({"train": 71}, "train_size=71 is more than the 70 images left for training"),
        ({"train_per_class": 8}, "labels_per_class=8 is more than the 7 images left of class 2"),
    ],
)
def test_more_images_than_there_are_is_refused(sizes: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        split(**sizes)

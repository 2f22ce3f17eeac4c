import hashlib

import pytest
import torch
from sklearn.datasets import load_digits

from datamodules import Digits


def split_of(**arguments: int) -> dict[str, torch.Tensor]:
    data = Digits(**arguments)
    return data.split(data.load().targets)


def digest_of(split: dict[str, torch.Tensor]) -> str:
    return hashlib.sha256(str([part.tolist() for part in split.values()]).encode()).hexdigest()


def test_the_images_are_those_of_scikit_learn_scaled_to_255() -> None:
    source, theirs = Digits().load(), load_digits()
    assert source.images.shape == (1797, 1, 8, 8)
    assert source.images.max() == 255
    restored = (source.images.squeeze(1).double() * 16 / 255).round()
    assert torch.equal(restored, torch.from_numpy(theirs.images))
    assert source.targets.tolist() == theirs.target.tolist()


def test_class_names_and_image_shape_describe_the_images() -> None:
    data = Digits()
    assert data.num_classes == 10
    assert data.class_names == ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9")
    assert data.image_shape == data.load().images.shape[1:]


def test_the_split_has_the_documented_sizes() -> None:
    assert {name: len(part) for name, part in split_of().items()} == {"train": 100, "val": 200, "test": 1000}


@pytest.mark.parametrize("labels_per_class", [1, 10, 54])
def test_no_image_is_in_two_parts_of_the_split_or_twice_in_one(labels_per_class: int) -> None:
    indices = torch.cat(list(split_of(labels_per_class=labels_per_class).values()))
    assert len(indices.unique()) == len(indices) == 1200 + 10 * labels_per_class


def test_every_class_has_its_share_of_every_part() -> None:
    targets = Digits().load().targets
    counts = {name: targets[part].bincount().tolist() for name, part in split_of(labels_per_class=54).items()}
    assert counts == {"train": [54] * 10, "val": [20] * 10, "test": [100] * 10}


def test_54_labels_is_all_that_the_rarest_class_has_left() -> None:
    assert Digits().load().targets.bincount().min() == 54 + 20 + 100


def test_more_labels_add_images_and_replace_none() -> None:
    few, many = split_of(labels_per_class=10)["train"], split_of(labels_per_class=25)["train"]
    assert set(few.tolist()) < set(many.tolist())


def test_test_and_validation_images_do_not_depend_on_the_number_of_labels() -> None:
    few, many = split_of(labels_per_class=1), split_of(labels_per_class=54)
    assert torch.equal(few["test"], many["test"]) and torch.equal(few["val"], many["val"])


def test_another_split_seed_gives_another_split() -> None:
    assert set(split_of(split_seed=1)["test"].tolist()) != set(split_of(split_seed=0)["test"].tolist())


def test_the_split_reads_no_global_random_state() -> None:
    torch.manual_seed(1)
    first = split_of()
    torch.manual_seed(2)
    assert digest_of(split_of()) == digest_of(first)


def test_the_split_is_the_same_in_every_process_on_every_machine() -> None:
    """Published tables rest on it. The digest was computed once and written down."""
    assert split_of()["test"][:5].tolist() == [458, 276, 526, 957, 516]
    assert digest_of(split_of()) == "14a8e4b05874efdb7639ab7a75fdce4d57baa8392c4e658cc48ad56dd5840e37"


@pytest.mark.parametrize("labels_per_class", [0, 55])
def test_labels_out_of_range_are_refused_with_the_range(labels_per_class: int) -> None:
    with pytest.raises(ValueError, match=rf"labels_per_class={labels_per_class} must be from 1 to 54"):
        Digits(labels_per_class=labels_per_class)


def test_a_split_seed_out_of_range_is_refused_with_the_range() -> None:
    with pytest.raises(ValueError, match=r"split_seed=-1 must be from 0 to 4294967295"):
        Digits(split_seed=-1)


def test_the_images_beyond_the_labels_are_unlabeled() -> None:
    torch.manual_seed(0)
    data = Digits(labels_per_class=10, batch_size=7)
    data.setup()
    targets = data.load().targets
    rest = data.split_unlabeled(targets)
    assert len(rest) == 1797 - 1200 - 100
    assert not set(rest.tolist()) & set(torch.cat(list(data.split(targets).values())).tolist())
    loader = data.unlabeled_dataloader()
    loader.sampler.set_epoch(1)
    order = list(loader.sampler)
    first = next(iter(loader))
    assert torch.equal(first, data.load().images[rest[order[:7]]])


def test_a_fraction_of_the_labels_is_that_of_fewer_labels_per_class() -> None:
    half, five = Digits(labels_per_class=10, train_fraction=0.5), Digits(labels_per_class=5)
    half.setup()
    five.setup()
    for name in ("train", "val", "test"):
        assert torch.equal(half.sets[name].images, five.sets[name].images)


def test_classes_are_drawn_evenly_if_asked() -> None:
    torch.manual_seed(0)
    data = Digits(labels_per_class=10, batch_size=10, class_balanced=True)
    data.setup()
    for _, targets in data.train_dataloader():
        assert targets.sort().values.tolist() == list(range(10))


def test_too_few_unlabeled_images_for_a_batch_are_refused() -> None:
    data = Digits(labels_per_class=54)
    data.setup()
    with pytest.raises(ValueError, match=r"57 unlabeled images do not fill one batch of batch_size=58"):
        data.unlabeled_dataloader(batch_size=58)

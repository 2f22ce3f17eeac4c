import pytest
import torch

from datamodules.samplers import TrainingSampler, batch_order_seed, class_balanced_order

TARGETS = torch.tensor([0] * 50 + [1] * 7 + [3] * 3)


def order(**arguments: object) -> list:
    settings = {"num_replicas": 1, "rank": 0, "seed": 5, **arguments}
    epoch = settings.pop("epoch", 0)
    sampler = TrainingSampler(TARGETS, **settings)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_every_class_is_drawn_equally_often() -> None:
    for epoch in range(20):
        counts = TARGETS[order(class_balanced=True, epoch=epoch)].bincount(minlength=4).tolist()
        assert counts == [20, 20, 0, 20]


def test_every_stretch_of_as_many_draws_as_classes_holds_each_once() -> None:
    drawn = TARGETS[class_balanced_order(TARGETS, 60, torch.Generator().manual_seed(0))]
    assert drawn.view(-1, 3).sort(1).values.tolist() == [[0, 1, 3]] * 20


def test_within_a_class_images_are_drawn_equally_often_to_within_one() -> None:
    drawn = torch.tensor(order(class_balanced=True)).bincount(minlength=60)
    for images in (slice(0, 50), slice(50, 57), slice(57, 60)):
        assert drawn[images].max() - drawn[images].min() <= 1


def test_over_epochs_all_images_of_a_common_class_are_drawn() -> None:
    seen = {index for epoch in range(30) for index in order(class_balanced=True, epoch=epoch)}
    assert seen == set(range(60))


def test_a_count_that_classes_do_not_divide_differs_by_one() -> None:
    drawn = class_balanced_order(TARGETS, 20, torch.Generator().manual_seed(0))
    assert sorted(TARGETS[drawn].bincount(minlength=4).tolist()) == [0, 6, 7, 7]


def test_the_balanced_order_is_a_function_of_seed_and_epoch() -> None:
    orders = []
    for seed in range(3):
        for epoch in range(3):
            torch.manual_seed(seed + 10 * epoch)
            first = order(class_balanced=True, seed=batch_order_seed(seed), epoch=epoch)
            assert order(class_balanced=True, seed=batch_order_seed(seed), epoch=epoch) == first
            orders.append(tuple(first))
    assert len(set(orders)) == 9


def test_processes_share_the_balanced_order_of_one() -> None:
    whole = order(class_balanced=True)
    for processes in (2, 3):
        shares = [order(class_balanced=True, num_replicas=processes, rank=rank) for rank in range(processes)]
        assert [index for draws in zip(*shares, strict=True) for index in draws] == whole


def test_draws_name_their_place_in_the_order_of_all_processes() -> None:
    draws = [order(num_replicas=2, rank=rank, as_draws=True, epoch=3) for rank in range(2)]
    together = [draw for pair in zip(*draws, strict=True) for draw in pair]
    assert [draw.place for draw in together] == list(range(60))
    assert [draw.image for draw in together] == order(epoch=3)
    assert {(draw.seed, draw.epoch) for draw in together} == {(5, 3)}


def test_each_draw_has_a_random_seed_of_its_own() -> None:
    draws = [draw for epoch in range(3) for seed in (1, 2) for draw in order(as_draws=True, epoch=epoch, seed=seed)]
    assert len({draw.random_seed() for draw in draws}) == len(draws) == 360


def test_another_stream_of_a_seed_has_another_order() -> None:
    assert len({batch_order_seed(0), batch_order_seed(0, 1), batch_order_seed(1), batch_order_seed(1, 1)}) == 4


def test_repeated_images_come_in_a_row_each_at_a_place_of_its_own() -> None:
    targets = torch.zeros(10, dtype=torch.int64)
    samplers = [TrainingSampler(targets, 2, rank, seed=3, as_draws=True, repeats=4) for rank in range(2)]
    dealt = [list(sampler) for sampler in samplers]
    joint = sorted((draw for draws in dealt for draw in draws), key=lambda draw: draw.place)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    assert [draw.image for draw in joint] == [int(image) for image in order for _ in range(4)][:10]
    assert [len(draws) for draws in dealt] == [5, 5]
    assert len({draw.random_seed() for draw in joint}) == 10


def test_an_image_once_in_a_row_is_the_order_without() -> None:
    targets = torch.zeros(10, dtype=torch.int64)
    assert list(TrainingSampler(targets, 1, 0, seed=3, repeats=1)) == list(TrainingSampler(targets, 1, 0, seed=3))


@pytest.mark.parametrize(("repeats", "balanced", "message"), [(0, False, "at least 1"), (2, True, "Drop one")])
def test_repeats_that_cannot_be_are_refused(repeats: int, balanced: bool, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingSampler(torch.zeros(4, dtype=torch.int64), 1, 0, 0, class_balanced=balanced, repeats=repeats)

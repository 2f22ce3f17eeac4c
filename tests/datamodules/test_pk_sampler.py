"""Batches of P identities with K images each."""

from itertools import chain
from typing import Any

import lightning as L
import pytest
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, TensorDataset

from datamodules import DigitsRetrieval
from datamodules.pk_sampler import PKSampler, check_composition, count_steps, draw_steps
from tests.helpers.distributed import run_distributed
from tests.helpers.one_weight import make_trainer

IDENTITIES = torch.tensor([7] * 9 + [3] * 4 + [5] * 13 + [1] * 4 + [0] * 6 + [8] * 40)


def batches(epoch: int = 0, few: str = "error", identities: Tensor = IDENTITIES, **arguments: int) -> list[list[int]]:
    settings = {"identities_per_batch": 2, "images_per_identity": 4, "num_replicas": 1, "rank": 0, "seed": 5}
    sampler = PKSampler(identities, **{**settings, **arguments}, few_images=few)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert len(order) == len(sampler)
    size = sampler.identities_per_batch * sampler.images_per_identity
    return [order[start : start + size] for start in range(0, len(order), size)]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_every_batch_on_every_rank_is_p_identities_with_k_different_images(processes: int) -> None:
    for epoch in range(5):
        shares = [batches(epoch, num_replicas=processes, rank=rank) for rank in range(processes)]
        assert len({len(share) for share in shares}) == 1 and shares[0]
        for together in zip(*shares, strict=True):
            for batch in together:
                check_composition(IDENTITIES[batch], 2, 4)
                assert len(set(batch)) == 8
            assert len({identity for batch in together for identity in IDENTITIES[batch].tolist()}) == 2 * processes


def test_two_processes_with_p_identities_see_what_one_with_twice_as_many_sees() -> None:
    whole = batches(3, identities_per_batch=4)
    shares = [batches(3, num_replicas=2, rank=rank) for rank in range(2)]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole


def test_no_image_comes_twice_in_an_epoch() -> None:
    order = list(chain(*batches()))
    assert len(set(order)) == len(order)


def test_an_epoch_takes_as_many_steps_as_can_be_filled() -> None:
    # Groups of 4: two of 7, one of 3, three of 5, one of 1, one of 0 and ten of 8.
    assert len(batches()) == 8  # the others' eight groups, each beside one of identity 8
    assert len(batches(identities_per_batch=1)) == 18
    assert len(batches(identities_per_batch=6)) == 1


def test_the_number_of_steps_is_that_of_the_best_of_all_plans() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        groups, width = torch.randint(1, 6, (6,), generator=generator), 3
        left, steps = sorted(groups.tolist()), 0
        while left[-width] > 0:  # taking the most frequent each time is best
            left = sorted([*left[:-width], *(count - 1 for count in left[-width:])])
            steps += 1
        assert count_steps(groups, width) == steps
        chosen = draw_steps(groups, steps, width, generator)
        assert all(len(set(step)) == width for step in chosen.tolist())
        assert (chosen.flatten().bincount(minlength=6) <= groups).all()


def test_with_equally_many_images_all_identities_come_equally_often() -> None:
    identities = torch.arange(10).repeat(20)
    for epoch in range(3):
        counts = identities[list(chain(*batches(epoch, identities=identities)))].bincount()
        assert counts.tolist() == [20] * 10


def test_over_epochs_all_images_and_many_pairs_of_identities_come() -> None:
    identities = torch.arange(10).repeat_interleave(7)
    seen = [batch for epoch in range(90) for batch in batches(epoch, identities=identities)]
    assert {image for batch in seen for image in batch} == set(range(70))
    assert len({tuple(identities[batch].unique().tolist()) for batch in seen}) == 45


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    orders = []
    for seed in (100, 200):
        for epoch in range(3):
            torch.manual_seed(epoch)
            first = batches(epoch, seed=seed)
            torch.rand(1)
            assert batches(epoch, seed=seed) == first
            orders.append(str(first))
    assert len(set(orders)) == 6


def test_images_of_identities_with_too_few_are_repeated_evenly() -> None:
    identities = torch.tensor([0, 0, 0, 1, 2, 2, 2, 2, 2])
    for epoch in range(10):
        for batch in batches(epoch, "repeat", identities, identities_per_batch=3, images_per_identity=4):
            check_composition(identities[batch], 3, 4)
            counts = torch.tensor(batch).bincount(minlength=9)
            assert sorted(counts[:3].tolist()) == [1, 1, 2] and counts[3] == 4 and counts[4:].max() == 1


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({"identities_per_batch": 7}, "takes 7 identities a step, but there are 6. Set it to at most 6"),
        ({"num_replicas": 4}, "takes 8 identities a step, but there are 6. Set it to at most 1"),
        ({"images_per_identity": 5}, "2 identities have fewer than images_per_identity=5 images, the fewest 4: 1, 3."),
        ({"identities_per_batch": 0}, "must be at least 1"),
        ({"images_per_identity": 0}, "must be at least 1"),
        ({"few": "skip"}, "few_images='skip' must be"),
    ],
)
def test_batches_that_cannot_be_filled_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        batches(**arguments)


def test_more_than_five_identities_with_too_few_images_are_counted() -> None:
    with pytest.raises(ValueError, match="0, 1, 2, 3, 4 and 3 more"):
        batches(identities=torch.arange(8).repeat(2))


# --- under DDP


class Noting(L.LightningModule):
    """Notes the identities of its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.seen: list[list[int]] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch[1].tolist())
        return self.layer(batch[0].float().flatten(1)[:, :1]).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class ReplacedLoader(DigitsRetrieval):
    """Makes its training loader with a sampler or a batch sampler of others."""

    def __init__(self, by: str) -> None:
        super().__init__(identities_per_batch=2)
        self.by = by

    def train_dataloader(self) -> DataLoader:
        train = self.sets["train"]
        images = TensorDataset(train.images, train.targets)
        sampler = MPerClassSampler(train.targets, m=4, batch_size=8, length_before_new_iter=len(train))
        if self.by == "sampler":
            return DataLoader(images, batch_size=8, sampler=sampler)
        return DataLoader(images, batch_sampler=BatchSampler(sampler, 8, drop_last=True))


def _see_batches(by: str | None) -> tuple[list[list[int]], str]:
    model = Noting()
    data = DigitsRetrieval(identities_per_batch=2) if by is None else ReplacedLoader(by)
    trainer = make_trainer(strategy="ddp", devices=2, max_epochs=2, limit_val_batches=0)
    try:
        trainer.fit(model, data)
    except Exception as error:
        return model.seen, f"{type(error).__name__}: {error}"
    return model.seen, ""


def test_l_ddp1_p_times_k_batches_are_kept_on_every_rank() -> None:
    (first, problem), (second, other_problem) = run_distributed(_see_batches, None)
    assert problem == other_problem == ""
    assert len(first) == len(second) == 2 * 12  # epochs of 5 digits with 10 groups each, 4 digits a step
    for one, other in zip(first, second, strict=True):
        check_composition(torch.tensor(one), 2, 4)
        check_composition(torch.tensor(other), 2, 4)
        assert not set(one) & set(other)


def test_l_ddp1_a_sampler_that_lightning_deals_out_by_rank_is_refused_at_the_first_batch() -> None:
    for seen, problem in run_distributed(_see_batches, "sampler"):
        assert seen == []
        assert "RuntimeError: The first training batch has" in problem


def test_l_ddp2_a_batch_sampler_that_lightning_drops_is_refused_at_the_first_batch() -> None:
    for seen, problem in run_distributed(_see_batches, "batch_sampler"):
        assert seen == []
        assert "RuntimeError: The first training batch has" in problem

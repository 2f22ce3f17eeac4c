from collections import Counter

import pytest
import torch

from datamodules.transforms import BatchAutoAugment, BatchRandAugment, BatchTrivialAugment
from datamodules.transforms.operations import OPERATIONS, apply_each, magnitude_table
from datamodules.transforms.policies import POLICIES

SIZE = (32, 32)
SIGNED = torch.tensor([0 < place < 10 for place in range(len(OPERATIONS))])


def assert_shares(operation: torch.Tensor, expected: torch.Tensor) -> None:
    """Assert that operations are drawn with these probabilities, within five standard deviations."""
    count = len(operation)
    shares = torch.bincount(operation, minlength=len(OPERATIONS)) / count
    assert ((shares - expected).abs() <= 5 * (expected * (1 - expected) / count).sqrt() + 1e-6).all()


def all_but_invert() -> torch.Tensor:
    return torch.tensor([1 / 14] * 14 + [0.0])


@pytest.mark.parametrize("augment", [BatchTrivialAugment(), BatchRandAugment(), BatchAutoAugment("cifar10")])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_drawn_operations_are_applied_one_after_the_other(augment, channels: int) -> None:
    levels = torch.randint(0, 256, (64, channels, 12, 12), dtype=torch.uint8)
    torch.manual_seed(0)
    made = augment(levels / 255)
    torch.manual_seed(0)
    for operation, magnitude in augment.draw(64, (12, 12)):
        levels = apply_each(levels, operation, magnitude)
    assert torch.equal(made, levels / 255)


def test_images_are_rounded_to_the_nearest_level() -> None:
    levels, augment = torch.randint(1, 255, (64, 3, 12, 12)), BatchTrivialAugment()
    made = []
    for shift in (-0.4, 0.0, 0.4):
        torch.manual_seed(0)
        made.append(augment((levels + shift) / 255))
    assert torch.equal(made[0], made[1]) and torch.equal(made[2], made[1])


def test_trivial_augment_draws_operations_strengths_and_signs_evenly() -> None:
    torch.manual_seed(0)
    ((operation, magnitude),) = BatchTrivialAugment().draw(50_000, SIZE)
    assert_shares(operation, all_but_invert())
    table = magnitude_table(31, SIZE, wide=True)
    turns = magnitude[operation == OPERATIONS.index("Rotate")]
    assert set(turns.abs().tolist()) == set(table[OPERATIONS.index("Rotate")].tolist())
    # Even over 31 strengths and two signs: mean 0, and a square of 135 ** 2 * 61 / 180 in the mean.
    assert abs(turns.mean()) < 5 * turns.std() / len(turns) ** 0.5
    squares = turns**2
    assert abs(squares.mean() - 135**2 * 61 / 180) < 5 * squares.std() / len(turns) ** 0.5
    assert (magnitude[~SIGNED[operation]] >= 0).all()


def test_rand_augment_draws_each_of_its_operations_evenly_at_one_strength() -> None:
    torch.manual_seed(0)
    steps = list(BatchRandAugment(operations=3, magnitude=9).draw(20_000, SIZE))
    table = magnitude_table(31, SIZE, wide=False)
    assert len(steps) == 3
    for operation, magnitude in steps:
        assert_shares(operation, all_but_invert())
        assert torch.equal(magnitude.abs(), table[operation, 9])
        negative = (magnitude[SIGNED[operation]] < 0).double()
        assert abs(negative.mean() - 0.5) < 5 * 0.5 / len(negative) ** 0.5
    agree = (steps[0][0] == steps[1][0]).double().mean()
    assert abs(agree - 1 / 14) < 5 * (1 / 14 / 20_000) ** 0.5  # the steps are drawn apart


@pytest.mark.parametrize("policy", POLICIES)
def test_auto_augment_draws_the_pairs_of_its_policy_with_their_probabilities(policy) -> None:
    torch.manual_seed(0)
    (first, _), (second, _) = steps = list(BatchAutoAugment(policy).draw(40_000, SIZE))
    for place, (operation, magnitude) in enumerate(steps):
        expected = torch.zeros(len(OPERATIONS))
        for pair in POLICIES[policy]:
            expected[OPERATIONS.index(pair[place][0])] += pair[place][1] / 25
            expected[0] += (1 - pair[place][1]) / 25
        assert_shares(operation, expected)
        table = magnitude_table(10, SIZE, wide=False)
        allowed = {(pair[place][0], pair[place][2]) for pair in POLICIES[policy]}
        for name, strength in Counter(zip(operation.tolist(), magnitude.abs().tolist(), strict=True)):
            assert name == 0 or any(
                OPERATIONS[name] == known and table[name, at] == strength for known, at in allowed
            ), (OPERATIONS[name], strength)
    together = {(OPERATIONS[a], OPERATIONS[b]) for a, b in zip(first.tolist(), second.tolist(), strict=True) if a and b}
    assert together == {(one[0], other[0]) for one, other in POLICIES[policy] if one[1] > 0 and other[1] > 0}


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"bins=1\): give at least 2"):
        BatchTrivialAugment(bins=1)
    with pytest.raises(ValueError, match=r"operations=0 .*magnitude=31 must be from 0 to 30"):
        BatchRandAugment(operations=0, magnitude=31)
    with pytest.raises(ValueError, match=r"bins=1 must be at least 2"):
        BatchRandAugment(bins=1)
    with pytest.raises(ValueError, match=r"policy='cifar'\): the policies are imagenet, cifar10, svhn"):
        BatchAutoAugment("cifar")

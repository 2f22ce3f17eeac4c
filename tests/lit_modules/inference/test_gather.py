"""The order of samples that several ranks have worked on."""

import pytest
import torch
from lightning.pytorch.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DistributedSampler

from lit_modules.inference.gather import interleave_ranks


@pytest.mark.parametrize(("length", "ranks"), [(8, 2), (7, 2), (10, 4), (3, 4)])
def test_interleaving_undoes_the_distributed_sampler(length: int, ranks: int) -> None:
    data = torch.randn(length, 3)
    samplers = [DistributedSampler(range(length), ranks, rank, shuffle=False) for rank in range(ranks)]
    gathered = torch.stack([data[list(sampler)] for sampler in samplers])
    assert torch.equal(interleave_ranks(gathered, length), data)


@pytest.mark.parametrize(("length", "ranks"), [(7, 2), (10, 4)])
def test_interleaving_takes_parts_of_different_lengths(length: int, ranks: int) -> None:
    data = torch.randn(length, 3)
    samplers = [UnrepeatedDistributedSampler(range(length), ranks, rank, shuffle=False) for rank in range(ranks)]  # type: ignore[arg-type]
    parts = [data[list(sampler)] for sampler in samplers]
    assert len({len(part) for part in parts}) == 2
    assert torch.equal(interleave_ranks(parts, length), data)

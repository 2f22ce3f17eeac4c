"""Augmentation by random operations, with and without a learned policy, each image of a batch by draws of its own.

Images are rounded to the 256 levels on which the operations are defined. All draws are made on the CPU, so that no step
waits for the device to say which images take which operation.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from datamodules.transforms.operations import OPERATIONS, apply_each, draw_signs, magnitude_table
from datamodules.transforms.policies import POLICIES

_WITHOUT_INVERT = len(OPERATIONS) - 1
_POLICY_BINS = 10

Draw = tuple[Tensor, Tensor]


class _BatchPolicy(nn.Module, ABC):
    """Base: a subclass draws operations, this applies them one after the other."""

    @abstractmethod
    def draw(self, count: int, image_size: tuple[int, int]) -> Iterator[Draw]:
        """Yield an operation and its magnitude for each of ``count`` images, once for each step."""

    def forward(self, images: Tensor) -> Tensor:
        levels = (images * 255).round_().to(torch.uint8)
        for operation, magnitude in self.draw(len(images), (images.shape[-2], images.shape[-1])):
            levels = apply_each(levels, operation, magnitude)
        return levels.to(images.dtype) / 255


class BatchTrivialAugment(_BatchPolicy):
    """One operation of random strength for each image (TrivialAugment Wide, Müller and Hutter, arXiv:2103.10158).

    Draws and strengths are those of torchvision's ``v2.TrivialAugmentWide``. Shifts go up to 32 pixels whatever the
    size of the images, as there: on images of 32 pixels and below some are shifted out of sight.

    Example::

        BatchTrivialAugment()(torch.rand(128, 3, 32, 32))

    Args:
        bins: Number of strengths from none to the strongest.

    Raises:
        ValueError: If ``bins`` is below 2.
    """

    def __init__(self, bins: int = 31) -> None:
        super().__init__()
        if bins < 2:
            raise ValueError(f"BatchTrivialAugment(bins={bins}): give at least 2, the weakest and the strongest.")
        self.bins = bins

    def draw(self, count: int, image_size: tuple[int, int]) -> Iterator[Draw]:
        operation = torch.randint(_WITHOUT_INVERT, (count,))
        strength = torch.randint(self.bins, (count,))
        table = magnitude_table(self.bins, image_size, wide=True)
        yield operation, table[operation, strength] * draw_signs(operation)

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


class BatchRandAugment(_BatchPolicy):
    """Several random operations of one strength for each image (Cubuk et al., arXiv:1909.13719).

    Draws and strengths are those of torchvision's ``v2.RandAugment``.

    Example::

        BatchRandAugment(operations=2, magnitude=9)(torch.rand(128, 3, 32, 32))

    Args:
        operations: Number of operations, one after the other.
        magnitude: Strength of all of them, from 0 to ``bins - 1``.
        bins: Number of strengths from none to the strongest.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(self, operations: int = 2, magnitude: int = 9, bins: int = 31) -> None:
        super().__init__()
        problems = []
        if operations < 1:
            problems.append(f"operations={operations} must be at least 1")
        if bins < 2:
            problems.append(f"bins={bins} must be at least 2")
        elif not 0 <= magnitude < bins:
            problems.append(f"magnitude={magnitude} must be from 0 to {bins - 1}")
        if problems:
            raise ValueError(f"BatchRandAugment: {'; '.join(problems)}.")
        self.operations = operations
        self.magnitude = magnitude
        self.bins = bins

    def draw(self, count: int, image_size: tuple[int, int]) -> Iterator[Draw]:
        strengths = magnitude_table(self.bins, image_size, wide=False)[:, self.magnitude]
        for _ in range(self.operations):
            operation = torch.randint(_WITHOUT_INVERT, (count,))
            yield operation, strengths[operation] * draw_signs(operation)

    def extra_repr(self) -> str:
        return f"operations={self.operations}, magnitude={self.magnitude}, bins={self.bins}"


class BatchAutoAugment(_BatchPolicy):
    """A random pair of operations out of a learned policy for each image (Cubuk et al., arXiv:1805.09501).

    Policies, draws and strengths are those of torchvision's ``v2.AutoAugment``.

    Example::

        BatchAutoAugment("cifar10")(torch.rand(128, 3, 32, 32))

    Args:
        policy: The data set on which the policy was found.

    Raises:
        ValueError: If there is no such policy.
    """

    def __init__(self, policy: Literal["imagenet", "cifar10", "svhn"] = "imagenet") -> None:
        super().__init__()
        if policy not in POLICIES:
            raise ValueError(f"BatchAutoAugment(policy={policy!r}): the policies are {', '.join(POLICIES)}.")
        self.policy = policy
        pairs = POLICIES[policy]
        self._operation = torch.tensor([[OPERATIONS.index(name) for name, _, _ in pair] for pair in pairs])
        self._probability = torch.tensor([[probability for _, probability, _ in pair] for pair in pairs])
        self._strength = torch.tensor([[strength for _, _, strength in pair] for pair in pairs])

    def draw(self, count: int, image_size: tuple[int, int]) -> Iterator[Draw]:
        table = magnitude_table(_POLICY_BINS, image_size, wide=False)
        pair = torch.randint(len(self._operation), (count,))
        for step in range(2):
            chosen = torch.rand(count) < self._probability[pair, step]
            operation = self._operation[pair, step] * chosen  # 0 is Identity
            yield operation, table[operation, self._strength[pair, step]] * draw_signs(operation)

    def extra_repr(self) -> str:
        return f"policy={self.policy!r}"

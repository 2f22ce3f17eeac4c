"""What a network for retrieval makes of images, part by part."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Branch(NamedTuple):
    """One vector of each image, and the class scores made of it.

    Args:
        before: The vector before the neck, ``(N, D)``, on which losses of distances act.
        after: The vector after the neck, ``(N, D)``; the same one where there is no neck.
        scores: Class scores ``(N, K)``.
        is_global: Whether the vector is of the whole image: those of a part of it take part in no loss of distances.
    """

    before: Tensor
    after: Tensor
    scores: Tensor
    is_global: bool = True


def concatenate(branches: Sequence[Branch], which: Literal["before", "after"]) -> Tensor:
    """Return the feature of each image, its vectors before or after the neck one behind the other."""
    return torch.cat([branch.before if which == "before" else branch.after for branch in branches], dim=1)


class EmbeddingEnsemble(nn.Module):
    """The features of several networks, each divided by its norm, one behind the other.

    Args:
        members: Networks with an ``embed`` from images to branches.

    Raises:
        ValueError: If there are no members.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("EmbeddingEnsemble: there are no members; give at least one network.")
        self.members = nn.ModuleList(members)

    def embed(self, images: Tensor) -> list[Branch]:
        """Map images ``(N, C, H, W)`` to one branch for each member; its scores are those of the member's first."""
        found: list[Branch] = []
        for member in self.members:
            branches = member.embed(images)  # type: ignore[operator]  # a network for retrieval has it
            before, after = (F.normalize(concatenate(branches, which).float()) for which in ("before", "after"))
            found.append(Branch(before, after, branches[0].scores))
        return found

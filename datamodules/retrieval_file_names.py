"""Who is on an image and from which camera it is, by the file's name, as in Market-1501 and DukeMTMC-reID.

``0002_c1s1_000451_03.jpg`` is person 2 at camera 1 of Market-1501, ``0005_c2_f0046985.jpg`` person 5 at camera 2 of
DukeMTMC-reID. In Market-1501's gallery person 0 is a distractor, no one who is searched for, and -1 is junk.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

_NAME = re.compile(r"(-1|\d+)_c(\d+)(?:s\d+)?_")
_NAMED = 5  # names that a message holds


def read_person_and_camera(names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Read persons and cameras.

    Args:
        names: File names, with or without their folders.

    Returns:
        Persons and cameras as in the names, each ``(N,)`` int64.

    Raises:
        ValueError: If names do not parse.
    """
    matches = [_NAME.match(Path(name).name) for name in names]
    wrong = sorted(name for name, match in zip(names, matches, strict=True) if match is None)
    if wrong:
        shown = ", ".join(map(repr, wrong[:_NAMED]))
        more = f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else ""
        raise ValueError(
            f"{len(wrong)} of {len(names)} file names do not say who is on the image and from which camera it is: "
            f"{shown}{more}. They should begin like 0002_c1s1_ or 0005_c2_."
        )
    numbers = [(int(match[1]), int(match[2])) for match in matches if match is not None]
    persons, cameras = torch.tensor(numbers, dtype=torch.int64).view(-1, 2).unbind(1)
    return persons, cameras

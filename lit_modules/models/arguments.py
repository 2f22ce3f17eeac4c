"""What can be wrong with the arguments of a `ResNet`; which parts go together, :class:`Parts` says itself."""

from collections.abc import Sequence

from lit_modules.models.parts import ACTIVATIONS, CONVOLUTIONS, NORMS, Parts
from lit_modules.models.pooling import POOLINGS
from lit_modules.models.residual import BLOCKS
from lit_modules.models.shortcuts import JOINS
from lit_modules.models.stems import STEMS

CHOICES = {
    "block": BLOCKS,
    "stem": STEMS,
    "activation": ACTIVATIONS,
    "norm": NORMS,
    "convolution": CONVOLUTIONS,
    "shortcut": JOINS,
    "pooling": POOLINGS,
}


def find_wrong_choices(**chosen: str) -> list[str]:
    """Say which choices there are not, one sentence a problem."""
    return [
        f"{name} is {choice!r}; it must be one of {', '.join(map(repr, CHOICES[name]))}."
        for name, choice in chosen.items()
        if choice not in CHOICES[name]
    ]


def find_wrong_numbers(layers: Sequence[int], dropout: float, num_classes: int, **counts: int) -> list[str]:
    """Say which numbers are out of range, one sentence a problem."""
    problems = []
    for name, count in {"num_classes": num_classes, **counts}.items():
        if count < 1:
            problems.append(f"{name} is {count}; it must be at least 1.")
    if not 1 <= len(layers) <= 4 or min(layers) < 1:
        problems.append(f"layers is {list(layers)}; it must list one to four stages of at least one block each.")
    if not 0 <= dropout < 1:
        problems.append(f"dropout is {dropout}; it is a probability and must be at least 0 and below 1.")
    return problems


def find_contradictions(
    layers: Sequence[int], block: str, width: int, stem: str, zero_gamma: bool, last_stride_1: bool, parts: Parts
) -> list[str]:
    """Say which arguments, each right by itself, exclude each other, one sentence a problem."""
    problems = []
    if parts.stride_in_3x3 and block == "basic":
        problems.append(
            "stride_in_3x3 is True with block='basic', whose stride is on a 3×3 convolution already. "
            "Use block='bottleneck', or leave stride_in_3x3 off."
        )
    if zero_gamma and parts.norm == "none":
        problems.append("zero_gamma is True with norm='none', where blocks have no last norm. Leave one of them off.")
    if zero_gamma and parts.shortcut != "add":
        problems.append(
            f"zero_gamma is True with shortcut={parts.shortcut!r}, but a block without a residual is the identity only "
            f"where its input is added. Use shortcut='add', or leave zero_gamma off."
        )
    if parts.norm == "ibn" and (len(layers) == 1 or width == 1):
        problems.append(
            f"norm is 'ibn' with layers={list(layers)} and width={width}, but it halves the channels of all stages but "
            f"the last. Use at least two stages and a width of at least 2, or another norm."
        )
    if last_stride_1 and len(layers) == 1:
        problems.append(
            f"last_stride_1 is True with layers={list(layers)}, whose only stage keeps the resolution already. "
            f"Use at least two stages, or leave it off."
        )
    if parts.blur_pool and stem == "small" and len(layers) - last_stride_1 <= 1:
        problems.append("blur_pool is True, but nothing in this network halves the resolution. Leave it off.")
    if parts.shortcut == "dense":
        problems += _find_narrow_stages(layers, width * BLOCKS[block].expansion)
    return problems


def _find_narrow_stages(layers: Sequence[int], out_channels: int) -> list[str]:
    """Say which stages have more blocks than channels for them to make, if outputs are concatenated."""
    return [
        f"shortcut is 'dense' with {depth} blocks in stage {index + 1}, which share {made} channels among them. "
        f"Use fewer blocks or a larger width."
        for index, depth in enumerate(layers)
        if (made := out_channels * 2**index - out_channels * 2**index // 2) < depth
    ]

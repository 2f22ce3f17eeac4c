"""Depth against width: other forms of a `ResNet` that cost as many operations.

Operations are counted by torch, on the network that the arguments describe, so every switch of it counts.
"""

import bisect
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_modules.models.resnet import ResNet

TOLERANCE = 0.05
"""By what share the operations may differ."""

SIZE = 64
"""Side in pixels of the image on which operations are counted; a multiple of 32, so that stages halve it exactly."""


def find_thinner(arguments: Mapping[str, Any], depth_factor: float) -> tuple[list[int], int]:
    """Return the layers and the width of a deeper and thinner network of as many operations.

    The layers are those of `arguments` times the factor. The width is the largest that costs no more, where what is
    left goes into further blocks of the deepest stage, or one more, whichever comes closer.

    Args:
        arguments: All arguments of `ResNet`, by name.
        depth_factor: How many times as many blocks, above 1.

    Raises:
        ValueError: If the factor is not above 1, or no network comes within five percent.
    """
    _check_factor("depth_factor", depth_factor)
    target = count_flops(arguments)
    layers = [max(depth + 1, round(depth * depth_factor)) for depth in arguments["layers"]]
    width = _find_width({**arguments, "layers": layers}, target)
    deepest = max(range(len(layers)), key=lambda stage: (layers[stage], stage))

    def deepen(blocks: int) -> dict[str, Any]:
        deeper = [depth + (blocks if stage == deepest else 0) for stage, depth in enumerate(layers)]
        return {**arguments, "layers": deeper, "width": width}

    deepened = _fill(deepen, len(layers), target)
    found = _find_closest([deepened, {**arguments, "layers": layers, "width": width + 1}], target)
    _check(found, target)
    return found["layers"], found["width"]


def find_wider_stem(arguments: Mapping[str, Any], factor: float) -> tuple[int, int]:
    """Return the stem's width and the stages' width of a network with a wider stem and as many operations.

    The stem gets its width times the factor, and the stages the largest width that then costs no more. What is left
    goes into further channels of the stem.

    Args:
        arguments: All arguments of `ResNet`, by name.
        factor: How many times as many channels the stem has, above 1.

    Raises:
        ValueError: If the factor is not above 1, or no network comes within five percent.
    """
    _check_factor("factor", factor)
    target = count_flops(arguments)
    stem_width = round((arguments.get("stem_width") or arguments["width"]) * factor)
    width = _find_width({**arguments, "stem_width": stem_width}, target)

    def widen(channels: int) -> dict[str, Any]:
        return {**arguments, "width": width, "stem_width": stem_width + channels}

    found = _fill(widen, stem_width, target)
    _check(found, target)
    return found["stem_width"], width


def count_flops(arguments: Mapping[str, Any]) -> int:
    """Return the operations of a `ResNet` on one image of 64 pixels; a multiplication and an addition are two."""
    return _count_flops(json.dumps(arguments, sort_keys=True))


@functools.cache
def _count_flops(arguments: str) -> int:
    keywords = json.loads(arguments)
    with torch.device("meta"):
        network = ResNet(**keywords).eval()
        image = torch.empty(1, keywords.get("in_channels", 3), SIZE, SIZE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    return counter.get_total_flops()


def _find_width(arguments: Mapping[str, Any], target: int) -> int:
    """Return the largest width, up to that of `arguments`, with which a network costs at most `target`, or else 1."""
    widths = range(1, arguments["width"] + 1)
    fitting = bisect.bisect_right(widths, target, key=lambda width: count_flops({**arguments, "width": width}))
    return max(1, fitting)


def _fill(make: Callable[[int], dict[str, Any]], limit: int, target: int) -> dict[str, Any]:
    """Return the network, of those that `make` gives for 0 to `limit`, whose operations are closest to `target`.

    Operations must rise with the number.
    """
    fitting = bisect.bisect_right(range(limit), target, key=lambda number: count_flops(make(number)))
    return _find_closest([make(max(0, fitting - 1)), make(fitting)], target)


def _find_closest(networks: Sequence[dict[str, Any]], target: int) -> dict[str, Any]:
    return min(networks, key=lambda network: abs(count_flops(network) - target))


def _check(found: Mapping[str, Any], target: int) -> None:
    ratio = count_flops(found) / target
    if abs(ratio - 1) > TOLERANCE:
        raise ValueError(
            f"the closest network, with layers={found['layers']}, width={found['width']} and "
            f"stem_width={found.get('stem_width')}, has {ratio:.0%} of the operations, which is not within "
            f"{TOLERANCE:.0%}. Start from a larger width or from more layers."
        )


def _check_factor(name: str, factor: float) -> None:
    if not factor > 1:
        raise ValueError(f"{name} is {factor}; it must be above 1.")

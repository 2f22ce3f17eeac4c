"""Whether components do what they are for, seen before training.

Networks, detectors and callbacks of ours take their arguments: no decay above 1. Whatever monitors a metric, ours or
not, has the mode that the metric asks for: nothing keeps the epoch of the lowest accuracy.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

import torch

from ablations.errors import RecipeError
from ablations.keys import class_of
from ablations.metric_kinds import UNKNOWN, metric_kind
from ablations.parsing import build_component
from ablations.recipe import class_name, is_component
from callbacks import SnapshotEnsemble
from lit_modules import Detector, YOLODetector


def component_problems(recipe: dict[str, Any]) -> Iterator[str]:
    """Say which components of ours in a resolved recipe refuse their arguments, and which have the wrong mode."""
    arguments, trainer = recipe["model"]["init_args"], recipe["trainer"]
    network = arguments.get("network")
    for component in (network, *(trainer["callbacks"] or [])):
        ours = is_component(component) and component["class_path"].startswith(("lit_modules.models.", "callbacks."))
        nested = ours and any(map(is_component, component["init_args"].values()))
        if not ours or (nested and component is not network):
            continue
        if reason := _refusal(json.dumps(component, sort_keys=True), trainer["max_epochs"], trainer["max_steps"]):
            yield reason
    if reason := _detector_refusal(json.dumps(arguments.get("detector"), sort_keys=True)):
        yield reason
    yield from _direction_problems(recipe)


def _direction_problems(value: Any) -> Iterator[str]:
    """Say which components, ours or not, monitor a metric as if it were better the other way round."""
    if is_component(value):
        arguments = (value.get("init_args") or {}) | (value.get("dict_kwargs") or {})
        monitor, mode = arguments.get("monitor"), arguments.get("mode")
        kind = metric_kind(monitor) if isinstance(monitor, str) else UNKNOWN
        if kind.is_known and mode in ("min", "max") and mode != kind.mode:
            yield (
                f"{class_name(value)}: monitor is {monitor!r}, which is better when it is {kind.better}, but mode is "
                f"{mode!r}. Set mode to {kind.mode!r}."
            )
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _direction_problems(item)


@functools.cache
def _refusal(text: str, max_epochs: int | None, max_steps: int) -> str:
    """Return why a network or callback of ours, given as JSON, is no use in a run of that length; empty if it is."""
    component = json.loads(text)
    with torch.device("meta"):
        try:
            made = class_of(component["class_path"])(**component["init_args"])
            if isinstance(made, SnapshotEnsemble):
                made.ends(max_epochs, max_steps)
        except ValueError as error:
            return str(error)
    return ""


@functools.cache
def _detector_refusal(text: str) -> str:
    """Return why a YOLOv3, given as JSON, cannot be built; empty if it can, or if it is another detector."""
    detector = json.loads(text)
    if not is_component(detector) or class_of(detector["class_path"]) is not YOLODetector:
        return ""  # torchvision's may download weights when they are built
    with torch.device("meta"):
        try:
            build_component(Detector, detector)
        except RecipeError as error:
            return str(error)
    return ""

"""What the parts of a recipe refuse, seen before training.

Networks, detectors and callbacks of ours, schedules and metrics are made, so that no decay is above 1 and no library is
missing. A module that is scored as it is has no views.
Whatever monitors a metric, ours or not, has the mode that the metric asks for.
"""

import functools
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from ablations.errors import RecipeError
from ablations.keys import class_of
from ablations.metric_kinds import UNKNOWN, metric_kind
from ablations.parsing import build_component
from ablations.recipe import arguments_of, class_name, is_component
from ablations.scoring import as_it_is, scored_part
from callbacks import SnapshotEnsemble
from lit_modules import Detector, YOLODetector
from lit_modules.optimizer_setup import find_schedule_problem


def component_problems(recipe: dict[str, Any]) -> Iterator[str]:
    """Say which components in a resolved recipe refuse their arguments, and which have the wrong mode."""
    arguments, trainer = arguments_of(recipe["model"]), recipe["trainer"]
    network = arguments.get("network")
    for component in (network, *(trainer["callbacks"] or [])):
        ours = is_component(component) and component["class_path"].startswith(("lit_modules.models.", "callbacks."))
        nested = ours and any(map(is_component, arguments_of(component).values()))
        if not ours or (nested and component is not network):
            continue
        if reason := _refusal(json.dumps(component, sort_keys=True), trainer["max_epochs"], trainer["max_steps"]):
            yield reason
    if reason := _detector_refusal(json.dumps(arguments.get("detector"), sort_keys=True)):
        yield reason
    for name in ("metric", "metrics"):
        metric = arguments.get(name)
        if is_component(metric) and (reason := _metric_refusal(json.dumps(metric, sort_keys=True))):
            yield f"model.{name}: {reason}"
    if reason := _schedule_refusal(json.dumps(arguments.get("schedule"), sort_keys=True)):
        yield reason
    if reason := _scoring_refusal(recipe):
        yield reason
    yield from _direction_problems(recipe)


def _scoring_refusal(recipe: dict[str, Any]) -> str:
    """Return that a module is scored as it is where the recipe asks for more; empty if it is not, or does not."""
    module, section = class_of(recipe["model"]["class_path"]), recipe["inference"]
    more = section["weights"] == SnapshotEnsemble.provides or any(
        value is not None for name, value in section.items() if name != "weights"
    )
    return as_it_is(module) if more and scored_part(module) is None else ""


def _direction_problems(value: Any) -> Iterator[str]:
    """Say which components, ours or not, monitor a metric as if it were better the other way round."""
    if is_component(value):
        arguments = arguments_of(value) | (value.get("dict_kwargs") or {})
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
            made = class_of(component["class_path"])(**arguments_of(component))
            if isinstance(made, SnapshotEnsemble):
                made.ends(max_epochs, max_steps)
        except ValueError as error:
            return str(error)
    return ""


@functools.cache
def _metric_refusal(text: str) -> str:
    """Return why a metric, given as JSON, cannot be made; empty if it can."""
    metric = json.loads(text)
    try:
        build_component(class_of(metric["class_path"]), metric)
    except RecipeError as error:
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


@functools.cache
def _schedule_refusal(text: str) -> str:
    """Return why a schedule, given as JSON, cannot be made; empty if it can, or if it is no class."""
    schedule = json.loads(text)
    if not is_component(schedule):
        return ""
    problem = find_schedule_problem(build_component(LRScheduler, schedule))
    return f"model.schedule: {problem}" if problem else ""

"""LightningCLI's parser for recipes: fills in every default, refuses what does not fit, and builds the objects.

The only module of the planning side that imports Lightning. Parsing a whole recipe takes tens of milliseconds, so the
sections are parsed apart and remembered, and an edit inside a component parses that component alone.
"""

import copy
import functools
import json
from dataclasses import dataclass
from typing import Any

import lightning as L
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import LightningArgumentParser, OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ablations.errors import RecipeError, did_you_mean
from ablations.parser_messages import clear_message, import_class, refusal
from ablations.recipe import SECTIONS, Change, changes, is_component, locate
from ablations.seeding import varying
from lit_modules import ScheduleCallable
from lit_modules.inference import Inference


@dataclass(frozen=True)
class Parts:
    """What a recipe builds.

    Args:
        trainer_arguments: the arguments of `lightning.Trainer`, callbacks built.
        module: the LightningModule.
        datamodule: the LightningDataModule.
        inference: which weights to score, and how.
    """

    trainer_arguments: dict[str, Any]
    module: L.LightningModule
    datamodule: L.LightningDataModule
    inference: Inference


def build(config: dict[str, Any]) -> Parts:
    """Build the objects of a recipe; the global seed must have been set before.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    built = {section: _build_section(section, config.get(section) or {}) for section in SECTIONS[1:]}
    return Parts(_as_dict(built["trainer"]), built["model"], built["data"], built["inference"])


def build_inference(section: dict[str, Any]) -> Inference:
    """Build what an `inference` section says.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    inference: Inference = _build_section("inference", section)
    return inference


def build_data(section: dict[str, Any]) -> L.LightningDataModule:
    """Build the DataModule of a resolved `data` section."""
    datamodule: L.LightningDataModule = _build_section("data", section)
    return datamodule


def prepare() -> None:
    """Make the parsers, which takes half a second, before the processes that need them are forked."""
    for section in SECTIONS[1:]:
        _section_parser(section)


def resolve(config: dict[str, Any]) -> dict[str, Any]:
    """Return a recipe with every default filled in.

    Raises:
        RecipeError: an unknown section, a missing one, or anything that LightningCLI's parser refuses.
        StudyError: the recipe's `vary` does not fit its data.
    """
    for key in config:
        if key not in (*SECTIONS, "vary"):
            offer = did_you_mean(str(key), SECTIONS)
            raise RecipeError(f"a recipe has no section {key!r}; its sections are {', '.join(SECTIONS)}.{offer}")
    for key in ("model", "data"):
        if not is_component(config.get(key)):
            raise RecipeError(f"{key!r} must be a component, a mapping with class_path and init_args.")
    seed = config.get("seed_everything", 0)
    if type(seed) is not int or seed < 0:
        raise RecipeError(f"'seed_everything' must be a whole number from 0 up, not {seed!r}.")
    sections = {section: _resolve_section(section, config.get(section) or {}) for section in SECTIONS[1:]}
    return varying({"seed_everything": seed, **sections}, config.get("vary", ()))


def resolve_edits(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Return `after` resolved, knowing that `before` is resolved and that a few edits lie between them.

    Only the plain argument, or the innermost component around each edit, is parsed again; when there is none, or it
    does not stand alone, the whole section is.

    Raises:
        RecipeError: as `resolve`.
    """
    after = copy.deepcopy(after)
    for change in list(changes(before, after)):
        if not (_resolve_plain(after, change) or _resolve_innermost(after, change)):
            section = change.path.partition(".")[0]
            if section not in SECTIONS[1:]:
                return resolve(after)
            after[section] = _resolve_section(section, after[section] or {})
    return after


def _resolve_plain(config: dict[str, Any], change: Change) -> bool:
    """Resolve a plain argument of the trainer, in place; return whether the change is one."""
    section, _, name = change.path.partition(".")
    if section != "trainer" or "." in name or isinstance(change.new, dict | list):
        return False
    parser = _section_parser(section)
    try:
        namespace = parser.parse_object({section: {name: change.new}}, defaults=False)
    except ArgumentError as error:
        raise RecipeError(clear_message(section, error)) from None
    config[section][name] = json.loads(_plain(parser, namespace, section))[name]
    return True


def _resolve_innermost(config: dict[str, Any], change: Change) -> bool:
    """Resolve the innermost component that holds what changed, in place; return whether it stood alone."""
    steps = change.path.split(".")
    # A plain value brings no component whose defaults are missing; where nothing stands now, a default may be missing.
    is_whole = change.new is not None and not isinstance(change.new, dict | list)
    for depth in range(len(steps) - 1, 1, -1):
        holder, key = locate(config, ".".join(steps[:depth]))
        if is_component(holder[key]):
            resolved = _resolve_alone(json.dumps(holder[key]), is_whole)
            if resolved is None:
                return False
            holder[key] = json.loads(resolved)
            return True
    return False


@functools.cache
def _resolve_alone(component: str, is_whole: bool) -> str | None:
    """Return the component resolved by itself, both as JSON; `None` if it cannot stand alone or is wrong.

    One that is whole, every default filled in, is only checked, which takes a fraction of the time.
    """
    value = json.loads(component)
    try:
        cls = import_class(value["class_path"])
        parser = _component_parser(cls)
        namespace = parser.parse_object({"component": value}, defaults=not is_whole)
    except (ArgumentError, ImportError, AttributeError, TypeError, ValueError):
        return None  # the section's parser says what is wrong
    resolved = _plain(parser, namespace, "component")
    return resolved if is_whole or resolved == component else _resolve_alone(resolved, is_whole)


@functools.cache
def _component_parser(cls: type) -> LightningArgumentParser:
    parser = LightningArgumentParser(exit_on_error=False)
    for made_later, slot in ((Optimizer, OptimizerCallable), (LRScheduler, ScheduleCallable)):
        if issubclass(cls, made_later):
            parser.add_argument("--component", type=slot, required=True)
            return parser
    parser.add_subclass_arguments(cls, "component", required=True)
    return parser


def build_component(base: type, component: dict[str, Any]) -> Any:
    """Build a resolved component that is a `base`.

    Raises:
        RecipeError: a class refuses its arguments.
    """
    parser = _component_parser(base)
    try:
        return parser.instantiate(parser.parse_object({"component": copy.deepcopy(component)})).component
    except (ArgumentError, ValueError, ImportError) as error:
        raise RecipeError(refusal(error, "", component) or clear_message("component", error)) from None


def _resolve_section(section: str, value: dict[str, Any]) -> Any:
    return json.loads(_resolve_section_text(section, json.dumps(value)))


@functools.cache
def _resolve_section_text(section: str, value: str) -> str:
    parser = _section_parser(section)
    try:
        resolved = _plain(parser, parser.parse_object({section: json.loads(value)}), section)
    except ArgumentError as error:
        raise RecipeError(clear_message(section, error)) from None
    # Defaults of components that stand where any callable may, as in torchvision's Compose, appear one parse later.
    return resolved if resolved == value else _resolve_section_text(section, resolved)


def _build_section(section: str, value: dict[str, Any]) -> Any:
    parser = _section_parser(section)
    try:
        return parser.instantiate(parser.parse_object({section: copy.deepcopy(value)}))[section]
    except (ArgumentError, ValueError, ImportError) as error:
        raise RecipeError(refusal(error, section, value) or clear_message(section, error)) from None


@functools.cache
def _section_parser(section: str) -> LightningArgumentParser:
    parser = LightningArgumentParser(exit_on_error=False)
    if section == "inference":
        parser.add_class_arguments(Inference, section)
        return parser
    kinds: dict[str, Any] = {"trainer": L.Trainer, "model": L.LightningModule, "data": L.LightningDataModule}
    subclasses = section != "trainer"
    parser.add_lightning_class_args(kinds[section], section, subclass_mode=subclasses, required=subclasses)
    return parser


def _plain(parser: LightningArgumentParser, namespace: Namespace, name: str) -> str:
    """Return one argument of a parsed namespace as JSON."""
    try:
        return json.dumps(namespace.as_dict()[name])
    except TypeError:  # some value has a type that only the parser can write down
        text = parser.dump(namespace, format="json", skip_unset=False, skip_validation=True)
        return json.dumps(json.loads(text)[name])


def _as_dict(value: Any) -> dict[str, Any]:
    return dict(value.__dict__) if isinstance(value, Namespace) else dict(value)

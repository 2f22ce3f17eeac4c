"""LightningCLI's parser for recipes: fills in every default, refuses what does not fit, and builds the objects.

The only module of the planning side that imports Lightning. Parsing a whole recipe takes tens of milliseconds, so the
sections are parsed apart and remembered, and an edit inside a component parses that component alone.
"""

import copy
import functools
import importlib
import inspect
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import lightning as L
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import LightningArgumentParser, OptimizerCallable
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ablations.errors import RecipeError, did_you_mean
from ablations.recipe import SECTIONS, Change, arguments_of, changes, is_component, locate
from ablations.seeding import varying
from lit_modules import ScheduleCallable
from lit_modules.inference import Inference
from lit_modules.optimizer_setup import LENGTHS

OTHER_FORM = re.compile(
    r"^( *)- Type <class 'lit_modules\.optimizer_setup\.\w+Schedule'> .*?(?=^\1- |^ *Given value)",
    re.MULTILINE | re.DOTALL,
)
"""What the parser says of a schedule in the forms that leave out the length of the run."""

CLASS_OF_MESSAGE = re.compile(r"Problem with given class_path '([^']+)'|expects a function or a callable class")
"""Where the parser begins to speak of a class, one that it makes or one that is made later."""


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
        raise RecipeError(_clear_message(section, error)) from None
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
        cls = _import_class(value["class_path"])
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
        raise RecipeError(_refusal(error, "", component) or _clear_message("component", error)) from None


def _resolve_section(section: str, value: dict[str, Any]) -> Any:
    return json.loads(_resolve_section_text(section, json.dumps(value)))


@functools.cache
def _resolve_section_text(section: str, value: str) -> str:
    parser = _section_parser(section)
    try:
        resolved = _plain(parser, parser.parse_object({section: json.loads(value)}), section)
    except ArgumentError as error:
        raise RecipeError(_clear_message(section, error)) from None
    # Defaults of components that stand where any callable may, as in torchvision's Compose, appear one parse later.
    return resolved if resolved == value else _resolve_section_text(section, resolved)


def _build_section(section: str, value: dict[str, Any]) -> Any:
    parser = _section_parser(section)
    try:
        return parser.instantiate(parser.parse_object({section: copy.deepcopy(value)}))[section]
    except (ArgumentError, ValueError, ImportError) as error:
        raise RecipeError(_refusal(error, section, value) or _clear_message(section, error)) from None


def _refusal(error: BaseException, where: str, value: dict[str, Any]) -> str:
    """Return what a class said when it refused its arguments, or that it lacks a library; empty if it was the parser.

    Args:
        error: what was raised.
        where: the path at which the recipe holds `value`.
        value: what was to be built; its class paths can be imported, since it is resolved.
    """
    owner = ""
    while True:
        if named := re.search(r"Problem with given class_path '([^']+)'", str(error)):
            owner = named.group(1)  # the innermost is named last
        cause = error.__cause__ or error.__context__
        if cause is None:
            break
        error = cause
    if isinstance(error, ImportError):
        return f"{_path_of(owner, where, value)}{owner} cannot be made: {' '.join(str(error).split())}"
    return "" if isinstance(error, ArgumentError | TypeError) else str(error)


def _path_of(class_path: str, where: str, value: Any) -> str:
    """Return the path at which a class stands first, with a colon; empty if it stands nowhere below `value`."""
    if is_component(value):
        if value["class_path"] == class_path and where:
            return f"{where}: "
        value = arguments_of(value)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_path_of(class_path, f"{where}.{key}" if where else str(key), item) for key, item in items)
    return next(filter(None, found), "")


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


def _import_class(class_path: str) -> type:
    module, _, name = class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    if not inspect.isclass(cls):
        raise TypeError(f"{class_path} is not a class")
    return cls


def _clear_message(section: str, error: Exception) -> str:
    """Return one sentence out of the parser's pages: where, what is wrong there, and what would be right."""
    text = OTHER_FORM.sub("", str(error))
    names = [name for name in re.findall(r'Parser key "([^"]+)"', text) if name != section]
    keys: list[str] = []
    for name in names:
        keys += name.split(".")[1:] if name.startswith(f"{section}.") else [name]
    where = ".".join([section, *keys])
    classes = re.findall(r"Problem with given class_path '([^']+)'", text)
    if refused := re.search(r"Option '([^']+)' is not accepted|does not accept option '([^']+)'", text):
        option = refused.group(1) or refused.group(2)
        owner = _owner_of_option(text, refused.start(), classes, section)
        return f"{where}: {_no_such_argument(owner, option)}"
    if missing := re.search(r"(module '[^']+' has no attribute '[^']+'|No module named '[^']+')", text):
        owner = _owner_at(text, missing.start()) or "a class_path"
        return f"{where}: {owner} cannot be imported: {missing.group(1)}."
    if other := re.search(r"Expected '([^']+)' to be a subclass of <class '([^']+)'>", text):
        return f"{where}: {other.group(1)} is no {other.group(2)}."
    if choice := re.search(r"Expected an? typing\.Literal\[([^\]]+)\]\. Got value: ([^\n]*)", text):
        return f"{where}: must be {' or '.join(choice.group(1).split(', '))}, not {choice.group(2).strip()}."
    wanted = list(dict.fromkeys(re.findall(r"Expected an? <class '([^']+)'>", text)))
    given = re.findall(r"(?:Got value|Given value): (.*?)(?=\. Got value: |\n|$)", text)
    kinds = [kind for kind in wanted if kind != "NoneType"]
    if kinds and ((given and classes != []) or section == "trainer"):
        shortest = min(given, key=len) if given else "?"
        return f"{where}: must be {' or '.join(kinds)}, not {shortest.strip()}."
    if needed := re.search(r'Key "([^"]+)" is required|(?:required: |are required: )([\w., ]+)', text):
        return f"{where}: {_missing_arguments(needed.group(1) or needed.group(2), _owner_at(text, needed.start()))}"
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    detail = next((line for line in lines if "subclass" in line.lower() or "import" in line.lower()), lines[0])
    return f"{where}: {detail}"


def _missing_arguments(listed: str, owner: str) -> str:
    names = [name.strip() for name in listed.split(",")]
    names = [name for name in names if name not in LENGTHS] or names
    of = f" of {owner}" if owner else ""
    if names == ["optimizer"]:
        return f"the argument optimizer{of} cannot be given in a recipe; model.schedule alone gets the optimizer."
    if len(names) == 1:
        return f"the argument {names[0]}{of} is missing."
    return f"the arguments {', '.join(names[:-1])} and {names[-1]}{of} are missing."


def _owner_at(text: str, position: int) -> str:
    """Return the class that a place in the message is about: of a class made later, the value comes after it."""
    owner = ""
    for named in CLASS_OF_MESSAGE.finditer(text, 0, position):
        later = re.compile(r"(?:Got|Given) value: Namespace\(class_path='([^']+)'").search(text, position)
        owner = named.group(1) or (later.group(1) if later else "")
    return owner


def _owner_of_option(text: str, position: int, classes: list[str], section: str) -> str:
    """Return the class that refused an option: the last one that the message names before the refusal, or after it."""
    named = re.findall(r"Problem with given class_path '([^']+)'", text[:position])
    after = re.search(r"Got value: Namespace\(class_path='([^']+)'", text[position : position + 200])
    if after:
        return after.group(1)
    return named[-1] if named else "lightning.Trainer" if section == "trainer" else "lit_modules.inference.Inference"


def _no_such_argument(owner: str, option: str) -> str:
    try:
        accepted = _argument_names(_import_class(owner))
    except (ImportError, AttributeError, TypeError, ValueError):
        return f"{owner} has no argument {option!r}."
    if option in accepted:
        return f"{owner} gets its argument {option!r} from the module, so it must be left out here."
    if near := did_you_mean(option, accepted):
        return f"{owner} has no argument {option!r}.{near}"
    return f"{owner} has no argument {option!r}. It has: {', '.join(accepted) or 'none'}."


def _argument_names(cls: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in ("self", "args", "kwargs")]

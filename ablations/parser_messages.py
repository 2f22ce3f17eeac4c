"""What LightningCLI's parser says over pages, in one sentence: where, what is wrong there, and what would be right."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentError

from ablations.errors import did_you_mean
from ablations.recipe import arguments_of, is_component
from lit_modules.optimizer_setup import LENGTHS

OTHER_FORM = re.compile(
    r"^( *)- Type <class 'lit_modules\.optimizer_setup\.\w+Schedule'> .*?(?=^\1- |^ *Given value)",
    re.MULTILINE | re.DOTALL,
)
"""What the parser says of a schedule in the forms that leave out the length of the run."""

CLASS_OF_MESSAGE = re.compile(r"Problem with given class_path '([^']+)'|expects a function or a callable class")
"""Where the parser begins to speak of a class, one that it makes or one that is made later."""


def refusal(error: BaseException, where: str, value: dict[str, Any]) -> str:
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


def import_class(class_path: str) -> type:
    module, _, name = class_path.rpartition(".")
    cls = getattr(importlib.import_module(module), name)
    if not inspect.isclass(cls):
        raise TypeError(f"{class_path} is not a class")
    return cls


def clear_message(section: str, error: Exception) -> str:
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
        owner = _owner_at(text, refused.start()) or _owner_of_section(section)
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


def _owner_of_section(section: str) -> str:
    return "lightning.Trainer" if section == "trainer" else "lit_modules.inference.Inference"


def _no_such_argument(owner: str, option: str) -> str:
    try:
        accepted = _argument_names(import_class(owner))
    except (ImportError, AttributeError, TypeError, ValueError):
        return f"{owner} has no argument {option!r}."
    if option in accepted:
        return f"{owner} gets its argument {option!r} from the module, so it must be left out here."
    if near := did_you_mean(option, accepted):
        return f"{owner} has no argument {option!r}.{near}"
    return f"{owner} has no argument {option!r}. It has: {', '.join(accepted) or 'none'}."


def _argument_names(cls: Callable[..., Any]) -> list[str]:
    return [name for name in inspect.signature(cls).parameters if name not in ("self", "args", "kwargs")]

"""A recipe: the whole configuration of one run, and the five verbs with which tricks edit it.

A recipe is a *resolved* LightningCLI configuration (`seed_everything`, `trainer`, `model`, `data`, `inference`): every
default is filled in, so every key exists, and a key that does not exist is a mistake. Components are written as
LightningCLI writes them, `{"class_path": ..., "init_args": {...}}`; paths step through `init_args` by themselves and
name the parts of a list by their class: `model.loss.label_smoothing`, `trainer.callbacks.LinearWarmup.epochs`.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeGuard

from ablations.errors import RecipeError, did_you_mean

SECTIONS = ("seed_everything", "trainer", "model", "data", "inference")


@dataclass(frozen=True)
class Change:
    """One difference between two recipes: a value, or a whole component, at `path`.

    Args:
        path: where, as tricks write it.
        old: what stood there; `None` also where nothing did.
        new: what stands there now.
    """

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        if self.old is None and is_component(self.new):
            return f"{self.path}: + {describe(self.new)}"
        if self.new is None and is_component(self.old):
            return f"{self.path}: - {describe(self.old)}"
        return f"{self.path}: {describe(self.old)} -> {describe(self.new)}"


class Recipe:
    """A recipe that can be edited.

    Example::

        recipe.set("model.loss.label_smoothing", 0.1)
        recipe.swap("model.optimizer", "torch.optim.AdamW", lr=1e-3)
        recipe.add("trainer.callbacks", "callbacks.LinearWarmup", epochs=5)
        recipe.edit("LinearWarmup", epochs=3)

    Args:
        config: a resolved configuration; it is copied.

    Raises:
        RecipeError: from every verb, when the path does not lead anywhere; the message names the nearest key.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = copy.deepcopy(config)

    def get(self, path: str) -> Any:
        """Return the value at `path`."""
        holder, key = locate(self.config, path)
        return holder[key]

    def set(self, path: str, value: Any) -> None:
        """Put `value` at `path`, which must exist."""
        holder, key = locate(self.config, path)
        if is_component(holder[key]) and not (value is None or is_component(value)):
            raise RecipeError(
                f"{path!r} holds {describe(holder[key])}, a component, and cannot become {value!r}. "
                f"Set one of its arguments ({', '.join(_keys(holder[key]))}), or swap the component."
            )
        holder[key] = copy.deepcopy(value)

    def swap(self, path: str, class_path: str, **init_args: Any) -> None:
        """Put a new component at `path`; it inherits nothing from the one that stood there."""
        holder, key = locate(self.config, path)
        holder[key] = component(class_path, init_args)

    def add(self, path: str, class_path: str, **init_args: Any) -> None:
        """Append a component to the list at `path`."""
        holder, key = locate(self.config, path)
        if holder[key] is not None and not isinstance(holder[key], list):
            raise RecipeError(f"{path!r} holds {describe(holder[key])}, not a list, so nothing can be added to it.")
        holder[key] = [*(holder[key] or []), component(class_path, init_args)]

    def edit(self, callback: str, **arguments: Any) -> None:
        """Change arguments of a callback that is there; `callback` is its class name."""
        for name, value in arguments.items():
            self.set(f"trainer.callbacks.{callback}.{name}", value)


def locate(config: dict[str, Any], path: str) -> tuple[Any, Any]:
    """Return the container, and the key in it, that `path` leads to.

    Raises:
        RecipeError: the path leads nowhere; the message names the nearest key.
    """
    steps = path.split(".")
    holder: Any = config
    for depth in range(len(steps) - 1):
        container, key = _step(holder, path, steps, depth)
        holder = container[key]
    return _step(holder, path, steps, len(steps) - 1)


def _step(holder: Any, path: str, steps: list[str], depth: int) -> tuple[Any, Any]:
    inside = _inside(holder)
    if steps[depth] not in inside:
        raise RecipeError(_no_such_key(path, steps[:depth], steps[depth], list(inside)))
    return inside[steps[depth]]


def component(class_path: str, init_args: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a component as LightningCLI writes it."""
    return {"class_path": class_path, "init_args": copy.deepcopy(init_args or {})}


def is_component(value: Any) -> TypeGuard[dict[str, Any]]:
    """Return whether `value` is a component: a mapping with a `class_path`."""
    return isinstance(value, dict) and "class_path" in value


def arguments_of(component: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a component; a class that takes none has none in a resolved recipe either."""
    arguments: dict[str, Any] = component.get("init_args") or {}
    return arguments


def class_name(value: dict[str, Any]) -> str:
    """Return the short class name of a component."""
    return str(value["class_path"]).rpartition(".")[2]


def describe(value: Any) -> str:
    """Return a component as a call, anything else as Python prints it."""
    if is_component(value):
        arguments = ", ".join(f"{key}={describe(item)}" for key, item in arguments_of(value).items())
        return f"{value['class_path']}({arguments})"
    if isinstance(value, list):
        return "[" + ", ".join(describe(item) for item in value) + "]"
    return repr(value)


def changes(old: Any, new: Any, path: str = "") -> Iterator[Change]:
    """Yield what differs between two recipes, or parts of them, in the order of their keys.

    A component that became one of another class is a single change, and so is one that joined or left a list: nothing
    in it can be compared with what stood there before.
    """
    if is_component(old) and is_component(new) and old["class_path"] == new["class_path"]:
        yield from changes(arguments_of(old), arguments_of(new), path)
    elif isinstance(old, dict) and isinstance(new, dict) and not (is_component(old) or is_component(new)):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from changes(old.get(key), new.get(key), f"{path}.{key}" if path else str(key))
    elif _is_list_of_components(old) and _is_list_of_components(new):
        before, after = _by_name(old or []), _by_name(new or [])
        for name in [*before, *(name for name in after if name not in before)]:
            yield from changes(before.get(name), after.get(name), f"{path}.{name}")
        if list(before) != list(after) and sorted(before) == sorted(after):
            yield Change(path, list(before), list(after))
    elif old != new or isinstance(old, bool) != isinstance(new, bool):
        yield Change(path, old, new)


def overlaps(path: str, other: str) -> bool:
    """Return whether two paths name the same part of a recipe, or one a part of the other."""
    return f"{path}.".startswith(f"{other}.") or f"{other}.".startswith(f"{path}.")


def _is_list_of_components(value: Any) -> bool:
    return value is None or (isinstance(value, list) and all(is_component(item) for item in value))


def _by_name(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Name the components of a list by their class; the second of a class is `Name#2`."""
    named: dict[str, Any] = {}
    for item in items:
        name, count = class_name(item), 1
        while (key := name if count == 1 else f"{name}#{count}") in named:
            count += 1
        named[key] = item
    return named


def _inside(holder: Any) -> dict[str, tuple[Any, Any]]:
    """Return the steps that lead on from `holder`, each with the container and key behind it."""
    if is_component(holder):
        holder = holder.setdefault("init_args", {})
    if isinstance(holder, dict):
        return {str(key): (holder, key) for key in holder}
    if isinstance(holder, list) and _is_list_of_components(holder):
        return {name: (holder, place) for place, name in enumerate(_by_name(holder))}
    return {}


def _keys(holder: Any) -> list[str]:
    return list(_inside(holder))


def _no_such_key(path: str, parents: list[str], step: str, existing: list[str]) -> str:
    where = ".".join(parents) or "the recipe"
    if near := did_you_mean(step, existing):
        return f"{path!r}: {where} has no {step!r}.{near}"
    if existing:
        return f"{path!r}: {where} has no {step!r}. There are: {', '.join(existing)}."
    return f"{path!r}: {where} has no {step!r}, since it has no parts that could be named."

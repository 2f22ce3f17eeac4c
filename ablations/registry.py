"""The tricks that studies can name.

A trick is a function that edits a recipe. Its name is the trick's only name, the first line of its docstring the text
of its row, its arguments what a study may set. The functions live in `ablations/tricks/`; plugins add their own.
"""

import importlib
import importlib.util
import inspect
import pkgutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ablations.errors import StudyError
from ablations.own_packages import taken_name
from ablations.recipe import Recipe

TASKS = ("classification", "detection", "retrieval")

Edit = Callable[..., None]
AnyEdit = TypeVar("AnyEdit", bound=Edit)


@dataclass(frozen=True)
class Trick:
    """A small named edit of a recipe.

    Args:
        name: the only name of the trick.
        tasks: the tasks for which it makes sense.
        edit: the function; its first argument is the `Recipe`.
        source: where the trick was published.
        text: one line that says what it does.
        revises: paths that an earlier trick may have set and this one may set again.
    """

    name: str
    tasks: frozenset[str]
    edit: Edit = field(compare=False)
    source: str = ""
    text: str = ""
    revises: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, inspect.Parameter]:
        """What a study may set: the parameters of the function, by name, without the recipe."""
        parameters = list(inspect.signature(self.edit).parameters.values())[1:]
        return {parameter.name: parameter for parameter in parameters}

    def apply(self, recipe: Recipe, arguments: dict[str, Any]) -> None:
        """Edit `recipe`.

        Raises:
            StudyError: an argument that the trick does not have, or a missing one.
        """
        try:
            inspect.signature(self.edit).bind(recipe, **arguments)
        except TypeError as error:
            accepted = ", ".join(str(parameter) for parameter in self.arguments.values()) or "none"
            raise StudyError(f"trick {self.name!r}: {error}. Its arguments are: {accepted}.") from None
        self.edit(recipe, **arguments)


_TRICKS: dict[str, Trick] = {}


def trick(*, tasks: set[str], source: str = "", revises: tuple[str, ...] = ()) -> Callable[[AnyEdit], AnyEdit]:
    """Register a function as a trick.

    Example::

        @trick(tasks={"classification"}, source="arXiv:1512.00567")
        def label_smoothing(recipe: Recipe, epsilon: float = 0.1) -> None:
            '''Take `epsilon` of the target's weight from the label and spread it over all classes.'''
            recipe.set("model.loss.label_smoothing", epsilon)

    Args:
        tasks: the tasks for which the trick makes sense, of `classification`, `detection` and `retrieval`.
        source: where it was published, for example `arXiv:1512.00567, section 7`.
        revises: paths that an earlier trick of a study may have set already.

    Raises:
        StudyError: no docstring, an unknown task, or a name that is taken.
    """

    def register(edit: AnyEdit) -> AnyEdit:
        name = edit.__name__
        text = (inspect.getdoc(edit) or "").partition("\n")[0].strip()
        if not text:
            raise StudyError(f"trick {name!r} has no docstring; its first line is the text of its row in every table.")
        if unknown := set(tasks) - set(TASKS):
            raise StudyError(f"trick {name!r}: no such task as {sorted(unknown)}; the tasks are {', '.join(TASKS)}.")
        taken = _TRICKS.get(name)
        if taken is not None and inspect.getsourcefile(taken.edit) != inspect.getsourcefile(edit):
            place = inspect.getsourcefile(taken.edit)
            raise StudyError(f"trick {name!r} of {inspect.getsourcefile(edit)} has the name of a trick of {place}.")
        _TRICKS[name] = Trick(name, frozenset(tasks), edit, source, text, tuple(revises))
        return edit

    return register


def tricks() -> dict[str, Trick]:
    """Return every trick that is registered, by name, those of `ablations/tricks/` included."""
    package = importlib.import_module("ablations.tricks")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_TRICKS)


def load_plugin(path: Path) -> None:
    """Import a Python file by its stem, so that its tricks are registered and its classes can be named in recipes.

    Raises:
        StudyError: the file is missing, cannot be imported, or has the name of another module.
    """
    name = path.stem
    if not path.is_file():
        raise StudyError(f"plugin {path} does not exist.")
    loaded = sys.modules.get(name)
    if loaded is not None:
        if Path(getattr(loaded, "__file__", None) or "").resolve() == path.resolve():
            return
        raise StudyError(f"plugin {path} has the name of another module, {name!r}. Rename the file.")
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        importlib.import_module(name)
    except StudyError:
        raise
    except Exception as error:  # whatever the user's file raises is the user's mistake, told with its place
        sys.modules.pop(name, None)
        reason = f"{type(error).__name__}: {error}.{taken_name(error)}"
        raise StudyError(f"plugin {path} cannot be imported: {reason}") from error
    found = Path(getattr(sys.modules[name], "__file__", None) or "").resolve()
    if found != path.resolve():
        raise StudyError(f"plugin {path} has the name of another module, {found}. Rename the file.")

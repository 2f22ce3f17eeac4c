"""Finds this project's packages before folders of the user's that have the names of some.

Lightning projects often have a folder `callbacks` or `datamodules`, and Python looks into the folder in which it was
started first. Importing this module, which `ablations` does, puts our packages before that.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PACKAGES = ("ablations", "lit_modules", "datamodules", "callbacks")
ROOT = Path(__file__).resolve().parents[1]

SAFE_PATH = "PYTHONSAFEPATH"
"""The variable by which a new interpreter leaves the folder in which it starts out of its path."""

OURS = "trickstack"
"""Its value where this project set it, for a process of its own."""


class _OwnFirst(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(fullname, [str(ROOT)]) if fullname in PACKAGES else None


def find_own_first() -> None:
    """Let our packages be found first in this process.

    Raises:
        ImportError: another module has the name of one and is imported already.
    """
    for name in PACKAGES:
        place = _place(sys.modules.get(name))
        if place is not None and place != ROOT / name:
            raise ImportError(
                f"Trickstack needs its own package {name!r}, and {place} was imported under that name before. Rename "
                f"that one, or import Trickstack in a process of its own."
            )
    sys.meta_path.insert(0, _OwnFirst())
    if os.environ.get(SAFE_PATH) == OURS:
        del os.environ[SAFE_PATH]  # what this process starts is not ours


def taken_name(error: Exception) -> str:
    """Return what to do about an import that found a package of ours where the user has one; empty for other errors."""
    name = (error.name or "").partition(".")[0] if isinstance(error, ImportError) else ""
    if name not in PACKAGES:
        return ""
    return f" {name!r} is a package of Trickstack's, whatever folders have that name. Give yours another name."


def _place(module: ModuleType | None) -> Path | None:
    """Return the folder of a package; `None` if there is no such module."""
    if module is None:
        return None
    if (file := getattr(module, "__file__", None)) is not None:
        return Path(file).resolve().parent
    folders = list(getattr(module, "__path__", []))
    return Path(folders[0]).resolve() if folders else None


find_own_first()

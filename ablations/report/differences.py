"""What each row changes in the recipe that it is compared with, from the recipes in the results folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ablations.recipe import changes
from ablations.table import Table
from ablations.yaml_file import load_yaml

_COMMAND = "# It runs alone: "


@dataclass(frozen=True)
class RowRecipe:
    """A row's recipe.

    Args:
        lines: its changes, as `ablate show` prints them; of a row that is compared with none, the recipe's own lines.
        command: how to train it alone; empty if the file does not say.
        problem: why there are no lines, in a sentence; empty if there are.
    """

    lines: tuple[str, ...]
    command: str
    problem: str = ""


def row_recipes(folder: Path, table: Table) -> dict[int, RowRecipe]:
    """Return the recipe of every row of a results folder, by index."""
    texts = {row.index: _text(folder / "recipes", row.index) for row in table.rows}
    configs = {index: _config(text) for index, text in texts.items()}
    found = {}
    for row in table.rows:
        text, config = texts[row.index], configs[row.index]
        other = None if row.compared_to is None else configs[row.compared_to]
        if config is None or (row.compared_to is not None and other is None):
            found[row.index] = RowRecipe((), "", "Its recipe is not in the results folder, or cannot be read.")
            continue
        body = [line for line in text.splitlines() if not line.startswith("#")]
        lines = body if other is None else [str(change) for change in changes(other, config)]
        command = next((line.removeprefix(_COMMAND) for line in text.splitlines() if line.startswith(_COMMAND)), "")
        found[row.index] = RowRecipe(tuple(lines), command)
    return found


def _text(folder: Path, index: int) -> str:
    """Return the text of a row's recipe file; empty if there is none, or not one alone, or it cannot be read."""
    paths = sorted(folder.glob(f"{index:02d}-*.yaml"))
    try:
        return paths[0].read_text(encoding="utf-8") if len(paths) == 1 else ""
    except (OSError, UnicodeDecodeError):
        return ""


def _config(text: str) -> dict[str, Any] | None:
    try:
        config = load_yaml(text)
    except (yaml.YAMLError, ValueError):
        return None
    return config if isinstance(config, dict) else None

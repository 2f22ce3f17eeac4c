"""How each row changed each class's recall."""

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, rows_figure

MOST_CLASSES = 24
_NUMBERS_UP_TO = 12
_MAP = LinearSegmentedColormap.from_list("changes", ["#b14a00", "#f2b48a", "#f4f4f2", "#8fc3e3", "#00609a"])


def shown_classes(changes: pd.DataFrame) -> list[int]:
    """Return the classes that are drawn: all, or those with the largest changes, in their own order."""
    largest = {int(label): float(changes[label].abs().max()) for label in changes.columns}
    ordered = sorted(largest, key=lambda label: (-largest[label] if largest[label] >= 0 else 0.0, label))
    return sorted(ordered[:MOST_CLASSES])


def draw_class_changes(changes: pd.DataFrame, names: list[str]) -> Figure:
    """Draw the changes as a grid, rows of the table down and classes across, in points.

    Args:
        changes: a line a row, its number as the index, and a column a class; NaN for a class without images.
        names: the names of the rows.
    """
    classes = shown_classes(changes)
    values = changes[classes].to_numpy(dtype=float)
    figure, axes = rows_figure([int(row) for row in changes.index], names, "class")
    largest = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 0.0
    top = largest or 1.0
    edges = np.arange(len(classes) + 1) - 0.5
    mesh = axes.pcolormesh(
        edges, np.arange(len(values) + 1) - 0.5, np.ma.masked_invalid(values), cmap=_MAP, vmin=-top, vmax=top,
        edgecolors=COLORS["paper"], linewidth=1,
    )  # fmt: skip
    axes.set_xlim(-0.5, len(classes) - 0.5)
    axes.set_xticks(range(len(classes)), [str(name) for name in classes])
    axes.spines["bottom"].set_visible(False)
    axes.grid(False)
    if len(classes) <= _NUMBERS_UP_TO:
        for (place, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                shade = "#ffffff" if abs(value) > 0.72 * top else "#15181c"
                axes.text(
                    column,
                    place,
                    "0" if round(value, 1) == 0 else f"{value:+.1f}",
                    ha="center",
                    va="center",
                    color=shade,
                    fontsize=7,
                )
    else:
        height = float(figure.get_size_inches()[1])
        box = axes.get_position()
        bar = figure.add_axes((box.x1 - 0.25, box.y1 + 0.06 / height, 0.25, 0.08 / height))
        figure.colorbar(mesh, cax=bar, orientation="horizontal", ticks=[-top, 0, top], format="%+.1f")
        bar.xaxis.set_ticks_position("top")
        bar.tick_params(labelsize=7, pad=1)
        bar.spines[:].set_visible(False)
    return figure

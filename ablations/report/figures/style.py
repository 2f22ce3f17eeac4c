"""How every figure looks: colours, type, the list of row names on its left.

Colours are those of Okabe and Ito, which colour-blind readers tell apart, darkened until they are legible as text; a
verdict has a marker as well. The page swaps each colour for a CSS variable of the same name, so that a figure follows
light and dark.
"""

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 7.4
"""Inches; the page shows an inch as 72 pixels or more."""
ROW_HEIGHT = 0.27
NAME_LENGTH = 27

COLORS = {
    "paper": "#fefefe",
    "ink": "#1b1f24",
    "muted": "#5c6771",
    "grid": "#e1e5e9",
    "gain": "#00679e",
    "loss": "#b14a00",
    "undecided": "#7b8590",
    "accent": "#00679f",
}
KIND_COLORS = {"gain": "gain", "loss": "loss", "undecided": "undecided", "small": "undecided", "none": "ink"}
KIND_MARKERS = {"gain": "^", "loss": "v", "undecided": "o", "small": "X", "none": "s"}
KIND_WORDS = {
    "gain": "gain",
    "loss": "loss",
    "undecided": "undecided",
    "small": "too small to matter",
    "none": "no verdict",
}

RC: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,  # a dollar in a trick's name is a dollar
    "text.color": COLORS["ink"],
    "axes.labelcolor": COLORS["muted"],
    "axes.edgecolor": COLORS["grid"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": COLORS["muted"],
    "ytick.color": COLORS["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "grid.color": COLORS["grid"],
    "grid.linewidth": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": COLORS["paper"],
    "savefig.facecolor": COLORS["paper"],
    "svg.fonttype": "none",
    "svg.hashsalt": "trickstack",
}


def color(kind: str) -> str:
    """Return the colour of a verdict."""
    return COLORS[KIND_COLORS[kind]]


def short(name: str, length: int = NAME_LENGTH) -> str:
    """Return a name that fits beside a figure: one printable line, its end cut off where it is long."""
    line = "".join(letter if letter.isprintable() else " " for letter in name)
    line = " ".join(line.split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def rows_figure(rows: Sequence[int], names: Sequence[str], label: str, right: float = 0.98) -> tuple[Figure, Axes]:
    """Return a figure with one line a row of the table, named on the left, the first on top; y is the place.

    Args:
        rows: numbers of the rows.
        names: their names.
        label: what the x-axis shows.
        right: where the axes end, as a share of the width; what is left holds numbers.
    """
    height = 0.75 + ROW_HEIGHT * len(rows)
    figure = Figure(figsize=(WIDTH, height))
    left = 0.3
    axes = figure.add_axes((left, 0.5 / height, right - left, ROW_HEIGHT * len(rows) / height))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_yticks(
        range(len(rows)), [f"{row}\u00a0\u00a0{short(name)}" for row, name in zip(rows, names, strict=True)]
    )
    axes.tick_params("y", labelcolor=COLORS["ink"])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x")
    axes.set_xlabel(label)
    return figure, axes


def verdict_legend(figure: Figure, axes: Axes, kinds: Sequence[str]) -> None:
    """Say above the axes what colour and marker of a verdict mean, for those that occur."""
    present = [kind for kind in KIND_WORDS if kind in kinds]
    for kind in present:
        axes.plot([], [], KIND_MARKERS[kind], color=color(kind), markersize=5, label=KIND_WORDS[kind])
    if present:
        height = float(figure.get_size_inches()[1])
        top = float(axes.get_position().y1) + 0.02 / height
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="lower right", bbox_to_anchor=(0.98, top), ncols=len(labels), handletextpad=0.2,
            columnspacing=1.2, borderaxespad=0,
        )  # fmt: skip

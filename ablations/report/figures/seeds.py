"""Every seed's number, row by row."""

import pandas as pd
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, rows_figure
from ablations.table import Table

_SPREAD = 0.5


def draw_seeds(table: Table, seeds: pd.DataFrame, label: str) -> Figure:
    """Draw a dot for every seed that finished, and each row's mean with its interval.

    Args:
        table: the table, for names, means and intervals.
        seeds: as `seeds_frame` makes it; a row's dots are spread in the order of their seeds.
        label: the metric and its unit.
    """
    figure, axes = rows_figure([row.index for row in table.rows], [row.name for row in table.rows], label)
    order = {seed: place for place, seed in enumerate(sorted(table.seeds))}
    places = {row.index: place for place, row in enumerate(table.rows)}
    done = seeds[seeds["status"] == "done"]
    offsets = done["seed"].map(order) / max(1, len(order) - 1) - 0.5 if len(order) > 1 else 0.0
    heights = done["row"].map(places) + _SPREAD * offsets
    axes.plot(done["value"], heights, "o", markersize=4, color=COLORS["accent"], alpha=0.7, markeredgewidth=0)
    for place, row in enumerate(table.rows):
        lost = row.n_failed + row.n_missing
        if row.n_done:
            axes.plot([row.score.estimate] * 2, [place - 0.34, place + 0.34], color=COLORS["ink"], linewidth=1.6)
            axes.plot([row.score.low, row.score.high], [place, place], color=COLORS["ink"], linewidth=0.9)
        if lost:
            axes.annotate(
                f"{lost} of {len(table.seeds)} without a score ", (1.0, place), xycoords=("axes fraction", "data"),
                ha="right", va="center", color=COLORS["loss"], fontsize=7.5,
            )  # fmt: skip
    axes.margins(x=0.04)
    return figure

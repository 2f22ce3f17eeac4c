"""The gains that papers published, beside those that were measured here."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, KIND_MARKERS, color, rows_figure, verdict_legend


def draw_published(frame: pd.DataFrame, label: str, numbers: Sequence[str]) -> Figure:
    """Draw each measured gain with its interval, and the published one as a hollow diamond.

    Args:
        frame: as `published_frame` makes it.
        label: the unit of the gains.
        numbers: what stands at the right of each row: the published gain.
    """
    figure, axes = rows_figure(frame["row"].tolist(), frame["name"].tolist(), label, right=0.89)
    axes.axvline(0, color=COLORS["muted"], linewidth=0.8)
    for place, line in enumerate(frame.to_dict("records")):
        shade = color(line["kind"])
        axes.annotate(numbers[place], (1.12, place), xycoords=("axes fraction", "data"), ha="right", va="center")
        if pd.notna(line["low"]):
            axes.plot([line["low"], line["high"]], [place, place], color=shade, linewidth=1.4, solid_capstyle="butt")
        axes.plot(line["gain"], place, KIND_MARKERS[line["kind"]], color=shade, markersize=5)
    axes.plot(
        frame["published"], range(len(frame)), "D", markersize=6, markerfacecolor="none",
        markeredgecolor=COLORS["ink"], markeredgewidth=1.1, label="published", linestyle="none",
    )  # fmt: skip
    verdict_legend(figure, axes, frame["kind"].tolist())
    axes.margins(x=0.06)
    return figure

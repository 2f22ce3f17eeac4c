"""The waterfall: how each row leads from the score of the row before it to its own."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, KIND_MARKERS, color, rows_figure, verdict_legend


def draw_waterfall(frame: pd.DataFrame, label: str, numbers: Sequence[str]) -> Figure:
    """Draw a bar from each row's origin to its end, with the interval of its gain.

    Args:
        frame: as `waterfall_frame` makes it.
        label: the metric and its unit.
        numbers: what stands at the right of each row, its gain above all.
    """
    figure, axes = rows_figure(frame["row"].tolist(), frame["name"].tolist(), label, right=0.89)
    for place, line in enumerate(frame.to_dict("records")):
        shade = color(line["kind"])
        axes.annotate(
            numbers[place], (1.12, place), xycoords=("axes fraction", "data"), ha="right", va="center", color=shade
        )
        if pd.isna(line["end"]):
            continue
        origin, end = line["origin"], line["end"]
        if pd.notna(origin):
            axes.barh(place, end - origin, left=origin, height=0.56, color=shade, alpha=0.32, linewidth=0)
        if pd.notna(line["low"]):
            axes.plot([line["low"], line["high"]], [place, place], color=shade, linewidth=1.4, solid_capstyle="butt")
        axes.plot(end, place, KIND_MARKERS[line["kind"]], color=shade, markersize=5)
        below = frame["origin"].iloc[place + 1 :]
        if len(below) and below.iloc[0] == end:
            axes.plot([end, end], [place, place + 1], color=COLORS["muted"], linewidth=0.6, linestyle=":")
    verdict_legend(figure, axes, frame["kind"].tolist())
    axes.margins(x=0.04)
    return figure

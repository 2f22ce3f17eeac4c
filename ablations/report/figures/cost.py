"""Gain against cost, with the rows that none beats at equal or lower cost."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablations.report.figures.style import COLORS, KIND_MARKERS, WIDTH, color
from ablations.report.frames import frontier

COSTS = {"training_time": "training time, × row {}", "inference_flops": "operations an image at test, × row {}"}

_NAMED_UP_TO = 20
"""Rows that all get their number; of more, those that none beats."""


def draw_cost(frame: pd.DataFrame, label: str, higher_is_better: bool) -> Figure:
    """Draw each row's gain over the first row against its cost, one panel for each cost that is known.

    Args:
        frame: as `cost_frame` makes it.
        label: what the gain is in.
        higher_is_better: whether more gain is better; the frontier follows from it.
    """
    known = [name for name in COSTS if frame[[name, "gain"]].notna().all(axis=1).any()]
    figure = Figure(figsize=(WIDTH, 3.5))
    figure.subplots_adjust(left=0.09, right=0.98, bottom=0.13, top=0.97, wspace=0.06)
    panels = figure.subplots(1, max(1, len(known)), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, known, strict=False):
        _panel(panel, frame, name, higher_is_better)
        panel.set_xlabel(COSTS[name].format(frame["row"].iloc[0]))
    panels[0].set_ylabel(label)
    return figure


def _panel(axes: Axes, frame: pd.DataFrame, cost: str, higher_is_better: bool) -> None:
    best = frontier(frame[cost], frame["gain"], higher_is_better)
    axes.step(
        frame[cost].iloc[best], frame["gain"].iloc[best], where="post", color=COLORS["accent"], linewidth=1.2, alpha=0.7
    )
    known = frame[frame[[cost, "gain"]].notna().all(axis=1)]
    for place, line in known.iterrows():
        kind = str(line["kind"])
        fill, order = (color(kind), 4) if place in best else (COLORS["paper"], 3)
        axes.plot(
            line[cost], line["gain"], KIND_MARKERS[kind], color=color(kind), markerfacecolor=fill, markersize=6,
            zorder=order,
        )  # fmt: skip
    named = known if len(known) <= _NAMED_UP_TO else known.loc[best]
    for (x, y), rows in _labels(named[cost].tolist(), named["gain"].tolist(), named["row"].tolist()).items():
        axes.annotate(rows, (x, y), xytext=(-5, 5), ha="right", textcoords="offset points", fontsize=7.5)
    axes.grid()
    axes.margins(0.1)


def _labels(xs: list[float], ys: list[float], rows: list[int]) -> dict[tuple[float, float], str]:
    """Return where the numbers of rows stand; those that would cover each other stand together."""
    near_x, near_y = 0.03 * (max(xs) - min(xs)), 0.04 * (max(ys) - min(ys))
    groups: dict[tuple[float, float], list[int]] = {}
    for x, y, row in zip(xs, ys, rows, strict=True):
        place = next((place for place in groups if abs(place[0] - x) <= near_x and abs(place[1] - y) <= near_y), (x, y))
        groups.setdefault(place, []).append(row)
    return {place: ", ".join(map(str, together)) for place, together in groups.items()}

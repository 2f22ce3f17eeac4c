"""Learning curves: a panel a training, the mean over the seeds and the band from the least to the greatest.

All panels are drawn into one pair of axes, in inches: sixty of matplotlib's own would take half a minute.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablations.report.figures.style import COLORS, WIDTH, short

_COLUMNS = 4
_LEFT, _TOP, _BOTTOM = 0.42, 0.12, 0.42
_WIDTH, _HEIGHT = 1.55, 0.85
_STEP_X, _STEP_Y = 1.73, 1.25
_FEW = 6


@dataclass(frozen=True)
class Panel:
    """One training's panel.

    Args:
        title: the rows that score it, and the name of the first.
        key: the key of the training.
        compared_key: the key of the training that the first row is compared with, drawn dashed, or None.
    """

    title: str
    key: str
    compared_key: str | None


@dataclass(frozen=True)
class _Box:
    """Where a panel is, in inches, and which epochs and values it spans; y runs down the figure."""

    left: float
    bottom: float
    epochs: tuple[float, float]
    values: tuple[float, float]

    def points(self, epochs: pd.Series, values: pd.Series) -> np.ndarray:
        """Return `(N, 2)` inches; values beyond the panel lie on its edge."""
        (first, last), (low, high) = self.epochs, self.values
        x = self.left + _WIDTH * (epochs.to_numpy(float) - first) / (last - first)
        y = self.bottom - _HEIGHT * (np.clip(values.to_numpy(float), low, high) - low) / (high - low)
        return np.column_stack([x, y])

    def x(self, epoch: float) -> float:
        return self.left + _WIDTH * (epoch - self.epochs[0]) / (self.epochs[1] - self.epochs[0])

    def y(self, value: float) -> float:
        return self.bottom - _HEIGHT * (value - self.values[0]) / (self.values[1] - self.values[0])


def draw_learning_curves(curves: pd.DataFrame, panels: Sequence[Panel], metric: str) -> Figure:
    """Draw a metric's curves, one panel a training, all to the same scale.

    Args:
        curves: as `read_stored` makes them.
        panels: which trainings, in order.
        metric: the metric; its curves must exist for some panel.
    """
    of_metric = {str(key): curve for key, curve in curves[curves["metric"] == metric].groupby("key")}
    shown = [panel for panel in panels if panel.key in of_metric]
    lines = math.ceil(len(shown) / _COLUMNS)
    height = _TOP + _STEP_Y * lines + _BOTTOM - 0.15
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    axes.text(0.04, 0.04, metric, va="top", fontsize=9, weight="bold")
    drawn = pd.concat([of_metric[panel.key] for panel in shown])
    epochs = (float(drawn["epoch"].min()), float(drawn["epoch"].max()))
    epochs = epochs if epochs[0] < epochs[1] else (epochs[0] - 1, epochs[1] + 1)
    boxes = [
        _Box(
            _LEFT + _STEP_X * (place % _COLUMNS),
            _TOP + _STEP_Y * (place // _COLUMNS + 1) - 0.08,
            epochs,
            _limits(drawn),
        )
        for place in range(len(shown))
    ]
    for place, (panel, box) in enumerate(zip(shown, boxes, strict=True)):
        _frame(axes, box, panel.title, place % _COLUMNS == 0, place + _COLUMNS >= len(shown))
    _curves(axes, shown, boxes, of_metric)
    return figure


def _frame(axes: Axes, box: _Box, title: str, labels_values: bool, labels_epochs: bool) -> None:
    axes.text(box.left, box.bottom - _HEIGHT - 0.06, short(title, 28), fontsize=7.5)
    ticks: dict[str, Any] = {"color": COLORS["muted"], "fontsize": 7}
    for value in _ticks(box.values):
        axes.plot([box.left, box.left + _WIDTH], [box.y(value)] * 2, color=COLORS["grid"], linewidth=0.7)
        if labels_values:
            axes.text(box.left - 0.05, box.y(value), f"{value:g}", ha="right", va="center", **ticks)
    if labels_epochs:
        for epoch in _ticks(box.epochs):
            axes.text(box.x(epoch), box.bottom + 0.05, f"{epoch:g}", ha="center", va="top", **ticks)
        axes.text(box.left + _WIDTH / 2, box.bottom + 0.19, "epoch", ha="center", va="top", **ticks)


def _curves(axes: Axes, panels: Sequence[Panel], boxes: Sequence[_Box], curves: dict[str, pd.DataFrame]) -> None:
    means, others, bands, dots = [], [], [], []
    for panel, box in zip(panels, boxes, strict=True):
        curve = curves[panel.key]
        means.append(box.points(curve["epoch"], curve["mean"]))
        low, high = box.points(curve["epoch"], curve["low"]), box.points(curve["epoch"], curve["high"])
        bands.append(np.concatenate([low, high[::-1]]))
        if len(curve) < _FEW:
            dots.append(means[-1])
        if panel.compared_key in curves:
            other = curves[panel.compared_key]
            others.append(box.points(other["epoch"], other["mean"]))
    axes.add_collection(PolyCollection(bands, facecolors=COLORS["accent"], alpha=0.2, linewidths=0))
    axes.add_collection(LineCollection(others, colors=COLORS["undecided"], linewidths=1, linestyles="--"))
    axes.add_collection(LineCollection(means, colors=COLORS["accent"], linewidths=1.3))
    if dots:
        axes.plot(*np.concatenate(dots).T, "o", color=COLORS["accent"], markersize=3)


def _ticks(limits: tuple[float, float]) -> list[float]:
    return [
        float(tick)
        for tick in MaxNLocator(4, steps=(1, 2, 5, 10)).tick_values(*limits)
        if limits[0] <= tick <= limits[1]
    ]


def _limits(curves: pd.DataFrame) -> tuple[float, float]:
    """Leave the wildest values out of the picture, so that one spike does not flatten every curve."""
    low, high = np.quantile(curves["low"], 0.01), np.quantile(curves["high"], 0.98)
    margin = 0.06 * (high - low) or 0.06 * abs(high) or 0.06
    return float(low - margin), float(high + margin)

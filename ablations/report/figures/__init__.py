"""The figures of a report, one a module: each draws a frame and returns a matplotlib figure."""

from ablations.report.figures.class_changes import draw_class_changes
from ablations.report.figures.cost import draw_cost
from ablations.report.figures.learning_curves import draw_learning_curves
from ablations.report.figures.published import draw_published
from ablations.report.figures.seeds import draw_seeds
from ablations.report.figures.waterfall import draw_waterfall

__all__ = [
    "draw_class_changes",
    "draw_cost",
    "draw_learning_curves",
    "draw_published",
    "draw_seeds",
    "draw_waterfall",
]

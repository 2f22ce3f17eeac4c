"""Which figures a report has, in order, each with its caption, or with the reason why it is left out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ablations.report import cells, figures
from ablations.report.drawing import Drawing, figure_style
from ablations.report.figures.class_changes import MOST_CLASSES
from ablations.report.figures.learning_curves import Panel
from ablations.report.frames import cost_frame, published_frame, waterfall_frame
from ablations.report.stored import Stored, curve_metrics
from ablations.table import Table

NO_STORE = "The run store is not there, and these are made from it."


@dataclass(frozen=True, eq=False)
class ReportFigure:
    """A section of the page that shows drawings.

    Args:
        anchor: the id of its section.
        title: its heading.
        caption: how to read it, in plain text.
        drawings: the drawings; none if there is nothing to draw.
        absent: why there are none, in a sentence; empty if there are some.
    """

    anchor: str
    title: str
    caption: str
    drawings: tuple[Drawing, ...] = ()
    absent: str = ""


@dataclass(frozen=True, eq=False)
class Material:
    """What the figures are made from.

    Args:
        table: the table.
        records: the rows of `study.json`, by index.
        seeds: every seed's number, as `seeds_frame` makes it.
        stored: what was read from the run store, or None if it is not there.
    """

    table: Table
    records: Mapping[int, Mapping[str, Any]]
    seeds: pd.DataFrame
    stored: Stored | None


def make_figures(material: Material) -> list[ReportFigure]:
    """Draw every figure of a report."""
    makers = (_waterfall, _published, _cost, _seeds, _curves, _classes)
    with figure_style():
        return [make(material) for make in makers]


def _waterfall(material: Material) -> ReportFigure:
    table = material.table
    caption = (
        "Each bar leads from the score of the row compared with to the row's own; the line is the interval of its "
        "gain, seen from where the bar starts. A row that is compared with none shows its score and its interval."
    )
    part = ReportFigure("waterfall", "Where the score comes from", caption)
    if not any(row.n_done for row in table.rows):
        return _without(part, "No row has a score yet.")
    frame = waterfall_frame(table, material.records)
    numbers = [cells.gain(table, row)[0] if row.n_done else cells.score(table, row)[0] for row in table.rows]
    return _with(part, Drawing("waterfall", figures.draw_waterfall(frame, cells.metric_name(table), numbers)))


def _published(material: Material) -> ReportFigure:
    table = material.table
    caption = "Hollow diamonds, and the numbers at the right, are the gains that were published, on data of their own"
    caption += f": {table.source}." if table.source else "."
    part = ReportFigure("published", "Published against measured", caption)
    frame = published_frame(table)
    if frame.empty:
        return _without(part, "The study names no published gain for a row that has a measured one.")
    unit = f"gain in {cells.metric_name(table)}"
    numbers = [cells.published(table, row) for row in table.rows if row.index in set(frame["row"])]
    return _with(part, Drawing("published", figures.draw_published(frame, unit, numbers)))


def _cost(material: Material) -> ReportFigure:
    table, stored = material.table, material.stored
    caption = (
        f"Numbers are rows; of many, only those are numbered that no other row beats at equal or lower cost: the "
        f"filled markers, on the line. The gain is over row {table.rows[0].index}."
    )
    part = ReportFigure("cost", "Gain against cost", caption)
    frame = cost_frame(table, stored.flops if stored else {})
    if (
        frame.empty
        or not frame["gain"].notna().any()
        or frame[["training_time", "inference_flops"]].isna().all(axis=None)
    ):
        return _without(part, "No row has both a score and a known cost.")
    label = f"gain over row {table.rows[0].index}, {cells.metric_and_sense(table)}"
    return _with(part, Drawing("cost", figures.draw_cost(frame, label, table.higher_is_better)))


def _seeds(material: Material) -> ReportFigure:
    table = material.table
    caption = "A dot is one seed, in the order of the seeds from top to bottom; the bar is the row's mean"
    caption += ", the line its 95 % interval." if len(table.seeds) > 1 else ". One seed has no interval."
    part = ReportFigure("seeds", "Every seed", caption)
    if not (material.seeds["status"] == "done").any():
        return _without(part, "No seed has a score yet.")
    return _with(part, Drawing("seeds", figures.draw_seeds(table, material.seeds, cells.metric_name(table))))


def _curves(material: Material) -> ReportFigure:
    caption = (
        "The line is the mean over the seeds, the band reaches from the least to the greatest of them; dashed is the "
        "row that it is compared with. Rows that score the same trainings share a panel. All panels have the same axes."
    )
    part = ReportFigure("curves", "Learning curves", caption)
    if material.stored is None:
        return _without(part, NO_STORE)
    curves = material.stored.curves
    panels = _panels(material)
    shown = [name for name in curve_metrics(material.table.metric) if (curves["metric"] == name).any()]
    if not shown:
        return _without(part, "No training has a learning curve in the run store.")
    return _with(
        part,
        *(
            Drawing(f"curves-{name.replace('/', '-')}", figures.draw_learning_curves(curves, panels, name))
            for name in shown
        ),
    )


def _panels(material: Material) -> list[Panel]:
    rows_of: dict[str, list[int]] = {}
    for index, record in material.records.items():
        rows_of.setdefault(record.get("key", ""), []).append(index)
    panels = []
    for key, rows in rows_of.items():
        first = material.records[rows[0]]
        other = material.records.get(first["compared_to"]) if first["compared_to"] is not None else None
        title = f"{', '.join(map(str, rows))}  {first['name']}"
        panels.append(Panel(title, key, other.get("key") if other and other.get("key") != key else None))
    return panels


def _classes(material: Material) -> ReportFigure:
    part = ReportFigure("classes", "What changed for each class", "")
    if material.stored is None:
        return _without(part, NO_STORE)
    changes, names = class_changes(material)
    if changes.empty:
        return _without(part, "No two rows that are compared have predictions of classes in the run store.")
    caption = (
        "The change of each class's recall (the share of its test images that were predicted right) from the row "
        "without the trick to the row with it, in points, mean over the seeds."
    )
    if len(changes.columns) > MOST_CLASSES:
        caption += f" Of {len(changes.columns)} classes, the {MOST_CLASSES} that changed most."
    part = ReportFigure(part.anchor, part.title, caption)
    return _with(part, Drawing("classes", figures.draw_class_changes(changes, names)))


def class_changes(material: Material) -> tuple[pd.DataFrame, list[str]]:
    """Return the change of every class's recall in points, a line a row, and the names of these rows."""
    recalls = material.stored.recalls if material.stored else {}
    lines, names = {}, []
    for row in material.table.rows:
        other = recalls.get(row.compared_to) if row.compared_to is not None else None
        own = recalls.get(row.index)
        if own is not None and other is not None and len(own) == len(other):
            lines[row.index] = 100 * material.records[row.index]["sign"] * (own - other)
            names.append(row.name)
    return pd.DataFrame.from_dict(lines, orient="index"), names


def _with(part: ReportFigure, *drawings: Drawing) -> ReportFigure:
    return ReportFigure(part.anchor, part.title, part.caption, drawings)


def _without(part: ReportFigure, why: str) -> ReportFigure:
    return ReportFigure(part.anchor, part.title, part.caption, (), why)

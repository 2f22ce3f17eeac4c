"""The page: one file of HTML with its style, its script and its figures inside, which loads nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from ablations.report import cells, headline
from ablations.report.differences import RowRecipe
from ablations.report.examples import example_intervals
from ablations.report.figure_list import Material, ReportFigure
from ablations.report.frames import verdict_kind
from ablations.report.pictures import Picture
from ablations.table import Table, TableRow
from ablations.table_effects import effects_of

_VERDICT_ORDER = {"gain": 0, "small": 1, "undecided": 2, "loss": 3, "none": 4}


@dataclass(frozen=True)
class Column:
    """A column of the page's table.

    Args:
        title: its head.
        kind: how its cells are set: `number` or `text`.
    """

    title: str
    kind: str


@dataclass(frozen=True)
class Cell:
    """A cell of the page's table.

    Args:
        lines: what it says; from the second on smaller.
        order: what it is sorted by; empty where there is nothing, which sorts last.
        kind: how it is set: `number`, `text`, or the kind of a verdict.
    """

    lines: tuple[str, ...]
    order: str
    kind: str = "number"


def render_page(
    material: Material,
    sections: Sequence[ReportFigure],
    recipes: Mapping[int, RowRecipe],
    pictures: tuple[list[Picture], list[str]],
) -> str:
    """Return the page.

    Args:
        material: what the figures were made from.
        sections: the figures.
        recipes: the recipe of each row.
        pictures: the pictures of the task, and a sentence for each that is left out.
    """
    table = material.table
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("ablations.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = _with_code
    return environment.get_template("report.html").render(
        table=table,
        style=_template_text("report.css"),
        script=_template_text("report.js"),
        question=headline.question(table),
        answer=headline.answer(table),
        facts=_facts(table),
        columns=_columns(table),
        rows=_rows(table),
        notes=cells.notes(table),
        effects=effects_of(table),
        incidents=cells.incidents(table),
        sections=[(section, _inline(section, table)) for section in sections],
        seeds=_seed_table(material),
        examples=_example_table(material),
        damaged=material.stored.damaged if material.stored else (),
        pictures=_by_row(pictures[0], table),
        pictures_left_out=pictures[1],
        recipes=[(row, recipes[row.index]) for row in table.rows],
        making=_making(table),
    )


def _facts(table: Table) -> list[tuple[str, str]]:
    """What a reader wants to know before any number."""
    better = "higher" if table.higher_is_better else "lower"
    return [
        ("Task", table.task),
        ("Metric", f"{cells.metric_name(table)}, {better} is better"),
        ("Rows", cells.mode(table)),
        ("Seeds", cells.seeds(table)),
        ("Made", table.head.date),
    ]


def _making(table: Table) -> list[tuple[str, str]]:
    """How the page came about, for whoever wants to make it again."""
    head = table.head
    made = [("Command", head.command), ("Commit", head.commit or "unknown"), ("Hardware", head.hardware)]
    made += [("Trained on", machine) for machine in table.machines]
    made += [(name, version) for name, version in head.versions.items()]
    return made


def _columns(table: Table) -> list[Column]:
    what = "row and what it leaves out" if table.mode == "leave-one-out" else "row and what it adds"
    titles = {"#": "number", what: "text", cells.metric_name(table): "number", "gain": "number"}
    titles |= {"p (Holm)": "number", "verdict": "text", "published gain": "number", "seconds a training": "number"}
    titles |= dict.fromkeys([*cells.costs(table), "parameters"], "number")
    return [Column(title, kind) for title, kind in titles.items()]


def _rows(table: Table) -> list[tuple[TableRow, list[Cell]]]:
    costs = cells.costs(table).values()
    return [(row, _cells(table, row, [of_rows[place] for of_rows in costs])) for place, row in enumerate(table.rows)]


def _cells(table: Table, row: TableRow, costs: Sequence[tuple[float, list[str]]]) -> list[Cell]:
    gain = row.gain.estimate if row.gain else None
    return [
        Cell((str(row.index),), str(row.index)),
        Cell((row.name, row.text), row.name, "text"),
        Cell(tuple(cells.score(table, row)), _order(row.score.estimate)),
        Cell(tuple(cells.gain(table, row)), _order(gain)),
        Cell((cells.p_value(row),), _order(row.p_adjusted)),
        Cell(
            _verdict(row),
            f"{_VERDICT_ORDER[verdict_kind(row.verdict)]}" if row.verdict else "",
            verdict_kind(row.verdict),
        ),
        Cell((cells.published(table, row),), _order(row.published)),
        Cell(tuple(cells.seconds(row)), _order(row.seconds)),
        *(Cell(tuple(lines), _order(value)) for value, lines in costs),
        Cell((cells.parameters(row),), _order(row.parameters)),
    ]


def _verdict(row: TableRow) -> tuple[str, ...]:
    word, _, why = row.verdict.partition(" (")
    return (word or cells.NONE, why.removesuffix(")")) if why else (word or cells.NONE,)


def _order(value: float | None) -> str:
    return "" if value is None or value != value else repr(float(value))


def _inline(section: ReportFigure, table: Table) -> list[Markup]:
    return [Markup(drawing.inline(str(escape(f"{section.title}, study {table.name}")))) for drawing in section.drawings]


def _seed_table(material: Material) -> list[tuple[TableRow, list[str]]]:
    """Every seed's number in words: a line a row, a cell a seed."""
    by_row: dict[int, dict[int, Any]] = {}
    for line in material.seeds.to_dict("records"):
        value = cells.number(material.table, line["value"]) if line["status"] == "done" else line["status"]
        by_row.setdefault(line["row"], {})[line["seed"]] = value
    table = material.table
    return [(row, [by_row.get(row.index, {}).get(seed, cells.NONE) for seed in table.seeds]) for row in table.rows]


def _by_row(pictures: Sequence[Picture], table: Table) -> list[tuple[TableRow | None, list[Picture]]]:
    """The pictures of each row that has some; those of no row come last."""
    rows: list[TableRow | None] = [*table.rows, None]
    groups = [(row, [shown for shown in pictures if shown.row == (row.index if row else None)]) for row in rows]
    return [(row, shown) for row, shown in groups if shown]


def _example_table(material: Material) -> list[tuple[TableRow, str, str, str]]:
    """Rows with the interval of their gain over seeds and test images: row, gain, interval, and how many images."""
    if material.stored is None:
        return []
    table, signs = material.table, {index: record["sign"] for index, record in material.records.items()}
    found = example_intervals(table, signs, material.seeds, material.stored.outcomes)
    rows = {row.index: row for row in table.rows}
    return [
        (
            rows[item.row],
            cells.number(table, item.gain.estimate, "+"),
            f"[{cells.number(table, item.gain.low, '+')}, {cells.number(table, item.gain.high, '+')}]",
            f"{item.images:,}",
        )
        for item in found
        if math.isfinite(item.gain.low)
    ]


def _template_text(name: str) -> Markup:
    return Markup(resources.files("ablations.report").joinpath("templates", name).read_text(encoding="utf-8"))


def _with_code(text: str) -> Markup:
    """Set what stands between backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts)
    )

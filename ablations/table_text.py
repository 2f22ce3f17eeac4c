"""A study's table as text: Markdown, and rich text for the terminal.

Pure functions of a `Table`, which round to a hundredth of a point. What is said around it is written in `table_notes`.
"""

import math
from collections.abc import Iterable

from rich import box
from rich.console import Group
from rich.table import Table as RichTable
from rich.text import Text

from ablations.table_costs import cost_columns, differs, short
from ablations.table_effects import effects_markdown, effects_of, effects_rich
from ablations.table_format import counted, escape, metric_and_sense, metric_name, number, p_value
from ablations.table_notes import head_lines, incident_lines, note_lines
from ablations.table_records import Table, TableRow

NONE = "–"
VERDICT_STYLES = {"gain": "green", "loss": "red"}


def to_markdown(table: Table) -> str:
    """Return the table with its head and notes, as GitHub's Markdown."""
    columns = [
        ("#", "--:", [str(row.index) for row in table.rows]),
        ("row", ":--", [escape(row.name) for row in table.rows]),
        (
            "what it leaves out" if table.mode == "leave-one-out" else "what it adds",
            ":--",
            [escape(row.text) for row in table.rows],
        ),
        (escape(metric_name(table)), "--:", [" ".join(score_text(table, row)) for row in table.rows]),
        ("gain", "--:", [" ".join(gain_text(table, row)) for row in table.rows]),
        ("p (Holm)", "--:", [p_value(row.p_adjusted) for row in table.rows]),
        ("verdict", ":--", [row.verdict or NONE for row in table.rows]),
        ("published gain", "--:", [published_text(table, row) for row in table.rows]),
        ("seconds a training", "--:", [" ".join(seconds_text(row)) for row in table.rows]),
        *((name, "--:", cells) for name, cells in cost_columns(table).items()),
        ("parameters", "--:", [NONE if row.parameters is None else f"{row.parameters:,}" for row in table.rows]),
    ]
    heads, rules, cells = zip(*columns, strict=True)
    lines = [_line(heads), _line(rules), *(_line(row) for row in zip(*cells, strict=True))]
    sections = [
        [f"# {escape(table.name)}"],
        _bullets(head_lines(table)),
        lines,
        *([effects_markdown(effects)] if (effects := effects_of(table)) else []),
        ["## How to read it"],
        _bullets(note_lines(table)),
    ]
    incidents = list(incident_lines(table))
    if incidents:
        sections += [["## Failed, missing and mixed"], _bullets(map(escape, incidents))]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def to_rich(table: Table) -> Group:
    """Return the table for the terminal, and what the mode shows below it: no notes, readable from 80 columns on."""
    effects, rows = effects_of(table), _rich_rows(table)
    return Group(rows, "", effects_rich(effects)) if effects else Group(rows)


def _rich_rows(table: Table) -> RichTable:
    most = "" if table.race is None else "at most "
    shown = RichTable(
        title=Text(f"{table.name}: {metric_and_sense(table)}, {most}{counted(len(table.seeds), 'seed')}"),
        caption=Text("\n".join(incident_lines(table))),
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    shown.add_column("#", justify="right", no_wrap=True)
    shown.add_column("row", overflow="fold", min_width=8)
    for name in ("score", "gain", "p"):
        shown.add_column(name, justify="right", no_wrap=True)
    shown.add_column("verdict", overflow="fold", min_width=11)
    with_test, with_parameters = differs(table, "flops_per_image"), differs(table, "parameters")
    for name in ("paper", "seconds", *["test"] * with_test, *["params"] * with_parameters):
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(
            Text(str(row.index)),
            Text(row.name),
            Text("\n".join(score_text(table, row))),
            Text("\n".join(gain_text(table, row))),
            Text(p_value(row.p_adjusted)),
            Text(row.verdict or NONE, VERDICT_STYLES.get(row.verdict, "")),
            Text(published_text(table, row)),
            Text("\n".join(seconds_text(row))),
            *[Text(NONE if math.isnan(row.test_ratio) else f"×{row.test_ratio:.2f}")] * with_test,
            *[Text(NONE if row.parameters is None else short(row.parameters))] * with_parameters,
        )
    return shown


def score_text(table: Table, row: TableRow) -> list[str]:
    """The mean with its interval and, if that is not the number of seeds, how many it is made from."""
    if row.n_done == 0:
        if row.n_failed and row.n_missing:
            return [f"{row.n_failed} failed,", f"{row.n_missing} not run"]
        return ["failed" if row.n_failed else "not run"]
    mean = number(table, row.score.estimate)
    if row.n_done > 1:
        mean += f" ± {number(table, row.score.half_width)}"
    return [mean] if row.n_done == len(table.seeds) else [mean, f"(n = {row.n_done})"]


def gain_text(table: Table, row: TableRow) -> list[str]:
    """The gain and, if there is one, its interval."""
    if row.gain is None or math.isnan(row.gain.estimate):
        return [NONE]
    parts = [number(table, row.gain.estimate, "+")]
    if math.isfinite(row.gain.high - row.gain.low):
        parts.append(f"[{number(table, row.gain.low, '+')}, {number(table, row.gain.high, '+')}]")
    if row.decision is not None:
        parts.append(f"(n = {row.decision.seeds})")
    return parts


def published_text(table: Table, row: TableRow) -> str:
    if row.published is None:
        return NONE
    gain = number(table, row.published, "+")
    return f"({gain})" if row.published_unconfirmed else gain


def seconds_text(row: TableRow) -> list[str]:
    """The time and, if known, how many times that of the row compared with."""
    if math.isnan(row.seconds):
        return [NONE]
    parts = [f"{row.seconds:,.0f}" if row.seconds >= 100 else f"{row.seconds:.3g}"]
    return parts if math.isnan(row.seconds_ratio) else [*parts, f"(×{row.seconds_ratio:.2f})"]


def _bullets(items: Iterable[str]) -> list[str]:
    return [f"- {item}" for item in items]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

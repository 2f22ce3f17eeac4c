"""The words of the table's cells: those of `table.md`, so that page, LaTeX and Markdown never differ.

The one place of the report that uses `table_text`.
"""

import html

from ablations import table_format, table_text
from ablations.table import Table, TableRow
from ablations.table_costs import COST_FIELDS, cost_columns
from ablations.table_format import metric_and_sense, metric_name, number, seed_list
from ablations.table_notes import MODE_TEXTS, incident_lines, note_lines

__all__ = [
    "NONE",
    "costs",
    "gain",
    "incidents",
    "metric_and_sense",
    "metric_name",
    "mode",
    "notes",
    "number",
    "p_value",
    "parameters",
    "published",
    "score",
    "seconds",
    "seeds",
]

NONE = table_text.NONE


def score(table: Table, row: TableRow) -> list[str]:
    """Return the mean with its interval and, if it is not made from every seed, from how many."""
    return table_text.score_text(table, row)


def gain(table: Table, row: TableRow) -> list[str]:
    """Return the gain and, if there is one, its interval."""
    return table_text.gain_text(table, row)


def p_value(row: TableRow) -> str:
    """Return the adjusted p."""
    return table_format.p_value(row.p_adjusted)


def published(table: Table, row: TableRow) -> str:
    """Return the published gain, in brackets where nobody has checked it."""
    return table_text.published_text(table, row)


def seconds(row: TableRow) -> list[str]:
    """Return the seconds a training and how many times those of the row compared with."""
    return table_text.seconds_text(row)


def costs(table: Table) -> dict[str, list[tuple[float, list[str]]]]:
    """Return the columns for further costs by heading: of each row what it is sorted by, and its lines."""
    return {
        name: [(getattr(row, COST_FIELDS[name]), text.split(" ")) for row, text in zip(table.rows, texts, strict=True)]
        for name, texts in cost_columns(table).items()
    }


def parameters(row: TableRow) -> str:
    """Return the number of parameters."""
    return NONE if row.parameters is None else f"{row.parameters:,}"


def notes(table: Table) -> list[str]:
    """Return how the table is to be read, a sentence or two each, as plain text."""
    return [html.unescape(line.replace("\\|", "|").replace("\\\\", "\\")) for line in note_lines(table)]


def incidents(table: Table) -> list[str]:
    """Return which seeds failed or are missing and why, and what the trainings should share and do not."""
    return list(incident_lines(table))


def mode(table: Table) -> str:
    """Return how rows were made from tricks."""
    return f"{table.mode}, {MODE_TEXTS.get(table.mode, 'each row has a row that it is compared with')}"


def seeds(table: Table) -> str:
    """Return how many seeds there are, and which."""
    most = "" if table.race is None else "at most "
    return f"{most}{len(table.seeds)} ({seed_list(table.seeds)})"

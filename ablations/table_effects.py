"""The tables below a study's table: interactions of pairs, and Shapley values.

Pure functions of a `Table`, for Markdown, the terminal and CSV.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from ablations.statistics import Difference
from ablations.table_format import escape, number, p_value
from ablations.table_records import Table

NONE = "–"


@dataclass(frozen=True)
class Effects:
    """What the tricks of a study do together, as text.

    Args:
        name: the heading, and the name of the CSV file.
        columns: by heading: a text for each line.
        notes: how to read it.
        frame: the same at full precision.
        styles: a colour for each line's verdict on the terminal.
    """

    name: str
    columns: dict[str, list[str]]
    notes: tuple[str, ...]
    frame: pd.DataFrame
    styles: tuple[str, ...]

    @property
    def lines(self) -> list[tuple[str, ...]]:
        """The cells line by line."""
        return list(zip(*self.columns.values(), strict=True))


def effects_of(table: Table) -> Effects | None:
    """Return the interactions or the Shapley values of a table; None in other modes."""
    if table.interactions:
        return _interactions(table)
    return _shapley(table) if table.shapley else None


def effects_markdown(effects: Effects) -> Iterator[str]:
    """Yield the lines of the section below the table."""
    yield f"## {effects.name}"
    yield ""
    yield _line(effects.columns)
    yield _line("--:" if name in ("value", "interaction", "p (Holm)") else ":--" for name in effects.columns)
    for cells in effects.lines:
        yield _line(map(escape, cells))
    yield ""
    yield from (f"- {escape(note)}" for note in effects.notes)


def effects_rich(effects: Effects) -> RichTable:
    """Return the table for the terminal, without notes."""
    shown = RichTable(title=effects.name, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in effects.columns:
        shown.add_column(name, overflow="fold", no_wrap=name == "p (Holm)")
    for style, cells in zip(effects.styles, effects.lines, strict=True):
        shown.add_row(*(Text(cell, style if cell in _STYLED else "") for cell in cells))
    return shown


_STYLED = ("gain", "loss", "more than the sum", "less than the sum")


def _style(difference: Difference, table: Table) -> str:
    good = difference.low > 0 if table.higher_is_better else difference.high < 0
    return "green" if good else "red"


def _interactions(table: Table) -> Effects:
    found = table.interactions
    columns = {
        "pair": [" × ".join(item.tricks) for item in found],
        "interaction": [_estimate(table, item.difference) for item in found],
        "p (Holm)": [p_value(item.p_adjusted) for item in found],
        "verdict": [item.verdict for item in found],
    }
    notes = (
        "The interaction is the score with both tricks, minus those with either, plus that of the base: what the two "
        "do together beyond the sum of what each does alone. Zero means that their gains add up.",
        f"The interval and p are those of a t test with Satterthwaite's degrees of freedom, adjusted with Holm's "
        f"method over all pairs ({len(found)}). An interaction is made of four means, so it varies more than a gain.",
    )
    frame = pd.DataFrame(
        {
            "row": item.row,
            "first": item.tricks[0],
            "second": item.tricks[1],
            "interaction": item.difference.estimate,
            **_numbers(item.difference, item.p_adjusted),
            "verdict": item.verdict,
        }
        for item in found
    )
    return Effects("Interactions", columns, notes, frame, tuple(_style(item.difference, table) for item in found))


def _shapley(table: Table) -> Effects:
    found = table.shapley
    columns = {
        "trick": [item.trick for item in found],
        "value": [_estimate(table, item.value) for item in found],
        "p (Holm)": [p_value(item.p_adjusted) for item in found],
        "verdict": [item.verdict for item in found],
        "smallest gain": [_extreme(table, item.smallest, item.smallest_after) for item in found],
        "largest gain": [_extreme(table, item.largest, item.largest_after) for item in found],
    }
    drawn, every = len(table.orders), math.factorial(len(found))
    source = "of the seeds" if drawn == every else "of the seeds and of the draw of orders"
    notes = (
        f"The value is the trick's Shapley value: what it gains when it joins, averaged over "
        f"{f'all {every}' if drawn == every else f'{drawn} of the {every:,}'} orders in which the tricks can join. The "
        f"values of all tricks add up to the gain of all of them together.",
        f"The interval holds the chance {source}; it and p are adjusted with Holm's method over all tricks "
        f"({len(found)}).",
        "The smallest and the largest gain are those of single orders; in brackets, the tricks that had joined before. "
        "They are extremes of noisy numbers, so they lie further apart than the true ones.",
        "A set of tricks is one row, whatever the order in which they joined: its recipe applies them in the study's "
        "order.",
    )
    frame = pd.DataFrame(
        {
            "trick": item.trick,
            "value": item.value.estimate,
            **_numbers(item.value, item.p_adjusted),
            "verdict": item.verdict,
            "smallest": item.smallest,
            "smallest_after": ", ".join(item.smallest_after),
            "largest": item.largest,
            "largest_after": ", ".join(item.largest_after),
        }
        for item in found
    )
    return Effects("Shapley values", columns, notes, frame, tuple(_style(item.value, table) for item in found))


def _numbers(difference: Difference, p_adjusted: float) -> dict[str, float]:
    return {
        "low": difference.low,
        "high": difference.high,
        "confidence": difference.confidence,
        "p": difference.p,
        "p_holm": p_adjusted,
    }


def _estimate(table: Table, difference: Difference) -> str:
    if math.isnan(difference.estimate):
        return NONE
    estimate = number(table, difference.estimate, "+")
    if not math.isfinite(difference.high - difference.low):
        return estimate
    return f"{estimate} [{number(table, difference.low, '+')}, {number(table, difference.high, '+')}]"


def _extreme(table: Table, gain: float, after: Sequence[str]) -> str:
    if math.isnan(gain):
        return NONE
    return f"{number(table, gain, '+')} ({'after ' + ', '.join(after) if after else 'first'})"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"

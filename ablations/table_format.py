"""How the text of a table writes numbers, names and lists."""

import html
import math

from ablations.table_records import Table


def metric_name(table: Table) -> str:
    return f"{table.metric} ({table.unit})" if table.unit else table.metric


def metric_and_sense(table: Table) -> str:
    """Return the metric with its unit and, where that is not what one expects, that lower is better."""
    return metric_name(table) if table.higher_is_better else f"{metric_name(table)}, lower is better"


def number(table: Table, value: float, sign: str = "") -> str:
    """Print a number to a hundredth of a point; a plain number, such as a loss, to as many digits before scaling."""
    decimals = max(0, 4 - round(math.log10(table.scale)))
    return f"{round(value, decimals) + 0.0:{sign}.{decimals}f}"  # + 0.0 turns -0.0 into 0.0


def p_value(p: float) -> str:
    """Print a p-value to three digits; a dash where there is none."""
    if math.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def seed_list(seeds: tuple[int, ...]) -> str:
    if len(seeds) > 5 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def row_list(rows: tuple[int, ...]) -> str:
    return f"row {rows[0]}" if len(rows) == 1 else f"rows {', '.join(map(str, rows))}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def escape(text: str) -> str:
    """Keep a text on one line, in its cell, and out of the page's HTML."""
    return html.escape(" ".join(text.split()), quote=False).replace("\\", "\\\\").replace("|", "\\|")
